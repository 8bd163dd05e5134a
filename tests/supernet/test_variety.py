"""The store has room for every legal setting though it is made from a few of them."""

from __future__ import annotations

import dataclasses
import random
from functools import lru_cache

import pytest
from usual import usual_first

import nas
from nas.search_spaces.registry import Kind, Operator, operators
from nas.search_spaces.space import SearchSpace
from nas.supernet.store import shapes_of
from nas.supernet.supernet import Supernet
from nas.supernet.variety import Shapes, Variety
from nas.supernet.views import union

MIXERS = [op for kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER) for op in operators(kind) if op.settings]
LISTED = {key: choices for preset in ("mobile", "base") for key, choices in nas.load_space(preset).settings.items()}


@lru_cache(maxsize=1)
def space() -> SearchSpace:
    """`tiny` with the settings of the larger presets."""
    return dataclasses.replace(nas.load_space("tiny"), name="modified", settings={**LISTED, "window": (4, 7)})


@pytest.mark.parametrize("op", usual_first(MIXERS), ids=lambda op: f"{op.kind}-{op.name}")
def test_there_is_room_for_every_legal_setting(op: Operator) -> None:
    variety, rng = Variety(space(), shapes_of), random.Random(op.name)
    for width, size in ((32, 16), (48, 7)):
        divided = space().independence.at(op.kind, op.name, width, size)
        kept = variety.of(op.kind, op.name, width, size)
        assert bool(kept) == bool(divided.ways)
        room: dict[str, tuple[int, ...]] = {}
        for settings in kept:
            room = enlarged(room, shapes_of(op.kind, op.name, settings, width, size))
        for _ in range(8 if divided.ways else 0):
            drawn = {name: v for part in divided.parts for name, v in zip(part.names, rng.choice(part.legal), strict=True)}
            settings = op.repair(drawn, width, size, space().choices_of(op.kind, op.name))
            assert settings is not None
            assert enlarged(room, shapes_of(op.kind, op.name, settings, width, size)) == room, settings


def enlarged(room: dict[str, tuple[int, ...]], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return room | {key: union(room.get(key, shape), shape) for key, shape in shapes}


def test_there_is_room_for_three_settings_that_grow_together() -> None:
    """A relative-query table has as many columns as a strip, whose width the heads bound."""
    fields = {"resolutions": (32,), "stem_stride": 4, "depths": ((1,),), "widths": ((64,),), "mixers": (("strip_attention",),)}
    settings = {
        **nas.load_space("tiny").settings,
        "heads": (2, 4, 8),
        "reduction": (2,),
        "position": ("none", "relative_query"),
    }
    whole = dataclasses.replace(nas.load_space("tiny"), name="strips", placements=("free",), settings=settings, **fields)
    supernet = Supernet(whole, 10, 3)
    for seed in range(60):
        assert supernet.cuts(whole.sample(random.Random(seed)))
