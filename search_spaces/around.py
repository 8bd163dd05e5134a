"""`around`: the space that lies around a published backbone, so that a supernet may start from its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nas.errors import SpaceError
from nas.search_spaces.anchored import SpaceAround
from nas.search_spaces.architecture import Architecture, Op, Stage
from nas.search_spaces.registry import Kind, Value, operator, operators
from nas.search_spaces.shrinking import HEADS, frame

SETTINGS: dict[str, tuple[Value, ...]] = {
    "kernel": (3, 5, 7, 9, 11, 13),
    "window": (4, 7, 8),
    "stripe": (1, 2, 4, 7),
    "grid": (4, 7),
    "band": (5, 7, 9, 11),
    "levels": (1, 2, 3),
    "expansion": (2, 3, 4, 6),
}
"""What may be smaller than the backbone's: all of it is a part of the larger one's weights, or has none."""
ATTENTION = ("neighbourhood_attention", "window_attention", "pooled_key_attention", "global_attention")
"""Of the many patterns of attention that share their projections, those that a new user would look at first."""
LIGHT, LIGHT_BLOCKS = ("pooling", "depthwise_conv"), ("separable_conv",)
"""Cheap mixers beside a channel mixer, and where a block has none."""
DEPTHS, WIDTHS = (0.5, 0.75), (0.5, 0.75)
"""Parts of the backbone's depth and width, each rounded up, that stages may have beside the whole."""


def around(architecture: Architecture, name: str = "around", resolutions: tuple[int, ...] = ()) -> SpaceAround:
    """The space whose largest member is an architecture: fewer blocks and channels, smaller settings, cheaper mixers.

    `resolutions` are those of the images (default: the architecture's own). Raises SpaceError for an architecture that no
    space lies around, with what stands in the way.
    """
    stages = architecture.stages
    maps = frame(architecture, tuple(stage.width for stage in stages), architecture.resolution).maps
    named = {key for stage in stages for op in _mixers_of(stage) for key, _ in op.settings}
    alone = SpaceAround(
        name=name,
        resolutions=resolutions or (architecture.resolution,),
        depths=tuple(_depths(stage) for stage in stages),
        widths=tuple((stage.width,) for stage in stages),
        mixers=tuple(_listed(stage, row=height == 1) for stage, (height, _) in zip(stages, maps, strict=True)),
        settings={key: choices for key, choices in SETTINGS.items() if key in named},
        anchor=architecture,
    )
    widths = tuple(_widths(alone, index) for index in range(len(stages)))
    return replace(alone, widths=widths, mixers=tuple(_taken(alone, index) for index in range(len(stages))))


def _mixers_of(stage: Stage) -> Iterator[Op]:
    for block in stage.blocks:
        yield from block.mixers
        yield from (op for op in (block.channel_mixer,) if op is not None)


def _listed(stage: Stage, *, row: bool) -> tuple[str, ...]:
    """A stage's own token mixers, those of their families, and light ones; its own alone where its map is a row of tokens."""
    own = tuple(dict.fromkeys(op.name for block in stage.blocks for op in block.mixers))
    if row or not own:
        return own or ("identity",)
    families = {operator(Kind.TOKEN_MIXER, name).family for name in own}
    related = [op for op in operators(Kind.TOKEN_MIXER) if op.family in families and not op.side and not op.emits]
    found = [op.name for op in related if op.family != "attention" or op.name in ATTENTION]
    light = LIGHT if any(block.channel_mixer for block in stage.blocks) else LIGHT_BLOCKS
    return tuple(dict.fromkeys((*own, *found, *light)))


def _taken(alone: SpaceAround, index: int) -> tuple[str, ...]:
    """The listed mixers of a stage that some block of it may have."""
    blocks = alone.anchor.stages[index].blocks
    taken = {name for block in blocks for name in alone.choices_at(index, block).get("mixer", ())}
    own = {op.name for block in blocks for op in block.mixers}
    return tuple(name for name in alone.mixers[index] if name in taken | own) or alone.mixers[index]


def _parts(whole: int, parts: tuple[float, ...], unit: int) -> tuple[int, ...]:
    """Parts of a number, rounded up to multiples of a unit, and the number itself; rising and without repeats."""
    found = {math.ceil(whole * part / unit) * unit for part in parts}
    return (*sorted(one for one in found if one < whole), whole)


def _depths(stage: Stage) -> tuple[int, ...]:
    """Blocks with widths of their own lead from one to the next, so that none may be left out."""
    depth = len(stage.blocks)
    return (depth,) if any(block.width for block in stage.blocks) else _parts(depth, DEPTHS, 1)


def _widths(alone: SpaceAround, index: int) -> tuple[int, ...]:
    """The widths of a stage at which everything in it is legal, of whole heads where it has several."""
    stage = alone.anchor.stages[index]
    if any(block.width for block in stage.blocks):
        return (stage.width,)
    heads = {value for op in _mixers_of(stage) for key, value in op.settings if key == HEADS and isinstance(value, int)}
    unit = math.lcm(8, *(stage.width // number for number in heads if number > 1 and stage.width % number == 0))
    return tuple(width for width in _parts(stage.width, WIDTHS, unit) if _fits(alone, index, width))


def _fits(alone: SpaceAround, index: int, width: int) -> bool:
    try:
        for side in alone.resolutions:
            alone.require_width(index, width, side)
    except SpaceError:
        return width == alone.anchor.stages[index].width
    return True
