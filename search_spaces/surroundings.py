"""The operators of a space around its blocks: stems, downsamples, heads, and the maps that they make.

Stems and heads take the first legal choice of every setting they need, a stem the space's stride; the settings that a
downsample needs are searched. Their optional settings stay at their defaults, but for `class_token`, which says what is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Op
from nas.search_spaces.graph import CONTEXT, OVERVIEW
from nas.search_spaces.maps import Map
from nas.search_spaces.registry import Kind, Operator, Settings, Value, nearest, operator

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

CLASS_TOKEN, CARRIED = "class_token", "carried"
"""The switch of operators that treat the first position apart, and the number of last channels that hold an overview."""
READ_FIRST = ("class_token", "two_branch_classifiers")
"""Heads that read the first position alone, which says something of the image where it is a class token."""
_SIDES = (8, 128)
"""A small and a large map: no downsample but one that halves every map halves both."""


def needed(space: SearchSpace, kind: Kind, name: str) -> dict[str, tuple[Value, ...]]:
    """The choices of the settings that an operator cannot do without."""
    known = operator(kind, name).settings
    return {key: choices for key, choices in space.choices_of(kind, name).items() if known[key].default is None}


def stem_of(space: SearchSpace, name: str, width: int, side: int) -> Op | None:
    """The stem of that name for images of a side, or None where it does not divide them by the space's stride."""
    choices = needed(space, Kind.STEM, name)
    if "stride" in choices:
        choices["stride"] = (space.stem_stride,)
    settings = operator(Kind.STEM, name).repair({}, width, side, choices)
    if settings is None or stem_map(space, Op(name, settings), side) is None:
        return None
    return Op(name, settings)


def stem_map(space: SearchSpace, stem: Op, side: int) -> Map | None:
    """The map behind a stem: the image divided by the space's stride, or as many tokens behind a class token."""
    patches = side // space.stem_stride
    if patches < 1 or side % space.stem_stride:
        return None
    maps = {(patches, patches): Map.square(patches), (1, patches**2 + 1): Map(1, patches**2 + 1, True)}
    return maps.get(operator(Kind.STEM, stem.name).map_after(side, side, stem.settings))


def downsample_of(
    space: SearchSpace, name: str, width: int, before: Map, stride: int, wanted: Mapping[str, Value] | None = None
) -> Op | None:
    """The downsample of that name to a width, with the settings nearest to `wanted`, or None where it does not fit.

    It fits where it makes of the map what a stage of that stride takes (`Map.become`), a stage of stride 1 nothing that
    halves. Of several that fit, one setting after the other is settled in the order of declaration, as `Operator.repair` does.
    """
    known, choices = operator(Kind.DOWNSAMPLE, name), _choices(space, name, before)
    settings = known.repair(wanted or {}, width, before.side, choices)
    if settings is None:
        return None
    if _after(known, settings, before, stride) is not None:
        return Op(name, settings)
    return _nearest_of(known, list(downsamples_of(space, name, width, before, stride)), wanted or {})


def downsamples_of(space: SearchSpace, name: str, width: int, before: Map, stride: int) -> dict[Op, Map]:
    """Every downsample of that name that fits, and the map behind it."""
    known = operator(Kind.DOWNSAMPLE, name)
    legal = known.legal_settings(width, before.side, _choices(space, name, before))
    found = {Op(name, settings): _after(known, settings, before, stride) for settings in legal}
    return {op: after for op, after in found.items() if after is not None}


def map_behind(downsample: Op, before: Map, stride: int) -> Map | None:
    """The map behind a downsample, or None where it does not fit."""
    return _after(operator(Kind.DOWNSAMPLE, downsample.name), downsample.settings, before, stride)


def carries_overview(downsample: str) -> bool:
    """Whether a downsample of that name is of use behind an overview only: it reads one, or carries its channels."""
    known = operator(Kind.DOWNSAMPLE, downsample)
    return known.side in (CONTEXT, OVERVIEW) or CARRIED in known.settings


def head_of(space: SearchSpace, name: str, width: int, size: int) -> Op | None:
    """The head of that name on a map, or None where it cannot work there."""
    settings = operator(Kind.HEAD, name).repair({}, width, size, needed(space, Kind.HEAD, name))
    return None if settings is None else Op(name, settings)


def _choices(space: SearchSpace, name: str, before: Map) -> dict[str, tuple[Value, ...]]:
    choices = needed(space, Kind.DOWNSAMPLE, name)
    if CLASS_TOKEN in operator(Kind.DOWNSAMPLE, name).settings:
        choices[CLASS_TOKEN] = (before.token,)
    return choices


def _nearest_of(known: Operator, fitting: list[Op], wanted: Mapping[str, Value]) -> Op | None:
    """The downsample with the settings nearest to the wanted ones, or None of none."""
    left = {op: known.complete(op.settings) for op in fitting}
    for name in known.settings if left else ():
        values = list(dict.fromkeys(given[name] for given in left.values()))
        settled = nearest(wanted.get(name, values[0]), values)
        left = {op: given for op, given in left.items() if given[name] == settled}
    return next(iter(left), None)


def _halves(known: Operator, settings: Settings) -> bool:
    """Whether a downsample is registered as one that halves maps, or rows of tokens as if they were maps, of any size."""
    squares = all(known.map_after(side, side, settings) == (side // 2, side // 2) for side in _SIDES)
    return squares or all(known.map_after(1, side**2 + 1, settings) == (1, (side // 2) ** 2 + 1) for side in _SIDES)


def _after(known: Operator, settings: Settings, before: Map, stride: int) -> Map | None:
    if stride == 1 and _halves(known, settings):
        return None
    return before.become(*known.map_after(before.height, before.width, settings), stride)
