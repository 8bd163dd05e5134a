"""The settings of an operator for which a store makes room: enough of them that every other one fits in.

All combinations would be too many where attention has its modifiers, and most differ in nothing that is stored. Settings that
an operator needs are combined in full; those that it may leave out are tried one at a time, beside the first and the last of
the others, and with each of them the needed ones likewise. What changes no parameter at the narrowest and the widest places
of the space, on its smallest and its largest maps, is left aside.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from nas.search_spaces.independence import Part
from nas.search_spaces.registry import Kind, Settings, Value, operator
from nas.search_spaces.space import SearchSpace

Shapes = frozenset[tuple[str, tuple[int, ...]]]
"""The names and shapes of an operator's parameters."""
Choice = dict[str, Value]


class Variety:
    """What to make room for, operator by operator; `shapes` tells the parameters of one at a width, map size and settings."""

    def __init__(self, space: SearchSpace, shapes: Callable[[Kind, str, Settings, int, int], Shapes]) -> None:
        self._space, self._shapes = space, shapes
        self._idle: dict[tuple[Kind, str], frozenset[tuple[str, ...]]] = {}

    def of(self, kind: Kind, name: str, width: int, size: int) -> tuple[Settings, ...]:
        """Settings whose parameters have room for those of every legal setting at a place; none where it cannot work."""
        divided = self._space.independence.at(kind, name, width, size)
        if not divided.ways:
            return ()
        idle = self._idle.get((kind, name))
        if idle is None:
            idle = self._idle[kind, name] = self._left_aside(kind, name)
        choices = _combined([part for part in divided.parts if part.names not in idle])
        rest = {key: value for part in divided.parts if part.names in idle for key, value in _values(part, 0).items()}
        return tuple(dict.fromkeys(_settings(kind, name, {**rest, **chosen}) for chosen in choices))

    def _left_aside(self, kind: Kind, name: str) -> frozenset[tuple[str, ...]]:
        """The parts that have a choice somewhere, and change no parameter wherever they are looked at."""
        space = self._space
        idle: set[tuple[str, ...]] = set()
        mattering: set[tuple[str, ...]] = set()
        widths = {width for widths in space.widths for width in widths}
        sizes = {at.side for stage in range(len(space.depths)) for at in space.maps_of(stage)}
        for width, size in itertools.product({min(widths), max(widths)}, {min(sizes), max(sizes)}):
            divided = space.independence.at(kind, name, width, size)
            parts = divided.parts if divided.ways else ()
            for part in (part for part in parts if len(part.legal) > 1 and part.names not in mattering):
                (mattering if self._matters(part, parts, width, size) else idle).add(part.names)
        return frozenset(idle - mattering)

    def _matters(self, part: Part, parts: tuple[Part, ...], width: int, size: int) -> bool:
        """Whether the parameters change with a part, beside the ends of the others or any one choice of one of them."""
        others = [other for other in parts if other is not part]
        contexts = [_merged(_values(other, end) for other in others) for end in (0, -1)]
        contexts += [contexts[0] | _values(other, index) for other in others for index in range(1, len(other.legal))]
        for context in contexts:
            settings = [_settings(part.kind, part.operator, context | _values(part, i)) for i in range(len(part.legal))]
            if len({self._shapes(part.kind, part.operator, one, width, size) for one in settings}) > 1:
                return True
        return False


def _combined(parts: list[Part]) -> Iterator[Choice]:
    """All values of the parts that hold a needed setting; and one change of these beside one change of the others."""
    needed = [part for part in parts if any(operator(part.kind, part.operator).settings[n].default is None for n in part.names)]
    free = [part for part in parts if part not in needed]
    first = _merged(_values(part, 0) for part in free)
    for indices in itertools.product(*(range(len(part.legal)) for part in needed)):
        yield first | _merged(_values(part, index) for part, index in zip(needed, indices, strict=True))
    for one, other in itertools.product(_changes(needed), _changes(free)):
        yield one | other


def _changes(parts: list[Part]) -> list[Choice]:
    """Each value of each part, beside the first and beside the last of the others."""
    ends = [_merged(_values(part, end) for part in parts) for end in (0, -1)]
    return [*ends, *(end | _values(part, index) for end in ends for part in parts for index in range(len(part.legal)))]


def _values(part: Part, index: int) -> Choice:
    return dict(zip(part.names, part.legal[index], strict=True))


def _merged(choices: Iterable[Choice]) -> Choice:
    return {key: value for choice in choices for key, value in choice.items()}


def _settings(kind: Kind, name: str, chosen: Choice) -> Settings:
    known = operator(kind, name).settings
    return tuple(sorted((key, value) for key, value in chosen.items() if value != known[key].default))
