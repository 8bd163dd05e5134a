"""The operators of a space around its blocks, whose settings are not searched: stems, downsamples, heads.

Each takes the first legal choice of every setting it needs; a stem takes the space's stride.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Op
from nas.search_spaces.registry import Kind, Value, operator

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

Settled = Callable[["SearchSpace", str, int, int], Op | None]


def stem_of(space: SearchSpace, name: str, width: int, side: int) -> Op | None:
    """The stem of that name for images of a side, or None where it does not divide them by the space's stride."""
    return _settled(space, Kind.STEM, name, width, side, side // space.stem_stride)


def downsample_of(space: SearchSpace, name: str, width: int, size: int) -> Op | None:
    """The downsample of that name to a width, from a map of a size, or None where it does not halve the map."""
    return _settled(space, Kind.DOWNSAMPLE, name, width, size, size // 2)


def head_of(space: SearchSpace, name: str, width: int, size: int) -> Op | None:
    """The head of that name on a map, or None where it cannot work there."""
    return _settled(space, Kind.HEAD, name, width, size, size)


def _settled(space: SearchSpace, kind: Kind, name: str, width: int, size: int, after: int) -> Op | None:
    known = operator(kind, name)
    choices: dict[str, tuple[Value, ...]] = {
        key: listed for key, listed in space.choices_of(kind, name).items() if known.settings[key].default is None
    }
    if kind == Kind.STEM and "stride" in choices:
        choices["stride"] = (space.stem_stride,)
    settings = known.repair({}, width, size, choices)
    if settings is None or known.map_after(size, size, settings) != (after, after):
        return None
    return Op(name, settings)
