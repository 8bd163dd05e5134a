"""Random search spaces made of whatever operators are registered, and one architecture written by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.placement import PLACEMENTS
from nas.search_spaces.registry import Kind, names, operators
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import carries_overview


def some(rng: random.Random, choices: Any, least: int = 1, most: int = 3) -> tuple[Any, ...]:
    """A few of the choices, in a random order."""
    pool = list(choices)
    return tuple(rng.sample(pool, rng.randint(least, min(most, len(pool)))))


def draw_space(rng: random.Random, stages: int) -> SearchSpace:
    stride = rng.choice((2, 4))
    strides = tuple(rng.choice((1, 2)) for _ in range(stages - 1)) if rng.random() < 0.4 else ()
    total = stride * math.prod(strides or (2,) * (stages - 1))
    listed = [name for name in names(Kind.DOWNSAMPLE) if not carries_overview(name)]
    splits = (1.0, *some(rng, (0.25, 0.5, 0.75), 0))
    fields = {
        "name": "random",
        "resolutions": some(rng, [total * n for n in (2, 3, 4, 7)], 1, 2),
        "stems": some(rng, names(Kind.STEM)),
        "stem_stride": stride,
        "strides": strides,
        "downsamples": tuple(dict.fromkeys((*some(rng, listed), *(("keep", "token_pruning") if 1 in strides else ())))),
        "norms": some(rng, names(Kind.NORM)),
        "depths": tuple(some(rng, (1, 2, 3)) for _ in range(stages)),
        "widths": tuple(some(rng, (8, 16, 24, 32, 48)) for _ in range(stages)),
        "mixers": tuple(some(rng, names(Kind.TOKEN_MIXER), 1, 4) for _ in range(stages)),
        "partners": some(rng, names(Kind.TOKEN_MIXER)) if len(splits) > 1 else (),
        "splits": splits,
        "channel_mixers": some(rng, names(Kind.CHANNEL_MIXER)),
        "placements": some(rng, PLACEMENTS),
        "residuals": some(rng, names(Kind.RESIDUAL), 1, 2),
        "heads": some(rng, names(Kind.HEAD), 1, 2),
        "settings": {"kernel": some(rng, (3, 5, 7)), "heads": (1, 2)} if rng.random() < 0.5 else {},
    }
    return SearchSpace(**fields)


def random_space(seed: int) -> SearchSpace:
    """The first valid space that the seed gives; a draw may ask for a mixer that cannot work in its stage."""
    rng = random.Random(f"space:{seed}")
    for _ in range(1000):
        try:
            return draw_space(rng, rng.randint(1, 3))
        except SpaceError:
            continue
    raise AssertionError("no valid space in 1000 draws")


@pytest.fixture(scope="session")
def spaces() -> Callable[[int], SearchSpace]:
    return random_space


def countable_space(seed: int) -> SearchSpace:
    """The first valid space of at most 1500 genotypes that the seed gives, with few choices of everything."""
    rng = random.Random(f"countable:{seed}")
    for _ in range(10_000):
        with contextlib.suppress(SpaceError):
            drawn = draw_space(rng, rng.choice((1, 1, 2)))
            fields = ("stems", "downsamples", "norms", "placements", "residuals", "heads")
            two = {name: some(rng, getattr(drawn, name), 1, 2) for name in fields}
            first = {name: getattr(drawn, name)[:1] for name in ("resolutions", "channel_mixers")}
            few = {
                name: some(rng, op.settings[name].choices, 1, rng.choice((1, 1, 2)))
                for op in operators()
                for name in op.settings
            }
            space = dataclasses.replace(drawn, **two, **first, settings=few)
            if 8 <= math.prod(len(gene.choices) for gene in space.genes) <= 1500:
                return space
    raise AssertionError("no countable space in 10000 draws")


@pytest.fixture(scope="session")
def countable() -> Callable[[int], SearchSpace]:
    return countable_space


@pytest.fixture(scope="session")
def small() -> Callable[..., SearchSpace]:
    """A space of a few members, with fields of one's choice."""

    def make(**fields: Any) -> SearchSpace:
        least = {
            "name": "small",
            "resolutions": (16,),
            "stems": ("patchify",),
            "stem_stride": 2,
            "downsamples": ("conv",),
            "norms": ("layer",),
            "depths": ((1, 2),),
            "widths": ((16, 32),),
            "mixers": (("depthwise_conv", "window_attention"),),
            "channel_mixers": ("mlp",),
            "settings": {"kernel": (3,), "dilation": (1,), "window": (4,), "shift": (False,), "heads": (2,), "expansion": (2,)},
        }
        return SearchSpace(**{**least, **fields})

    return make


@pytest.fixture(scope="session")
def handmade() -> Architecture:
    """What no genotype expresses: a width that changes inside a stage, and a block without a channel mixer."""
    conv = Op.of("depthwise_conv", kernel=3, dilation=1)
    attention = Op.of("window_attention", heads=2, window=4, shift=False)
    mlp = Op.of("mlp", expansion=2)
    return Architecture(
        32,
        Op.of("conv", stride=2),
        (
            Stage(16, "batch", None, (Block((conv,), mlp), Block((attention,), mlp, width=24), Block((conv,), None, width=24))),
            Stage(32, "rms", Op.of("conv"), (Block((conv, attention), mlp, split=0.25, width=64), Block((attention,), mlp))),
        ),
    )
