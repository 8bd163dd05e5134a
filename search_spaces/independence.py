"""Which settings of an operator depend on each other, found by watching what its rules read.

A rule that reads no other setting than its own cuts the settings of an operator into parts that may be counted, searched and
repaired apart: the number of legal settings is the product over the parts. What a rule reads of the place is noted too, so
that what was found at one width or map size serves at every other that nobody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nas.search_spaces.registry import Kind, Operator, Place, Value, nearest, operator

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

Choices = dict[str, tuple[Value, ...]]
Chosen = dict[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Settings of an operator whose rules read each other and no others, with all of their legal values, cheapest first.

    There is one object for each such set of values, so that parts may be told apart by identity.
    """

    kind: Kind
    operator: str
    names: tuple[str, ...]
    legal: tuple[tuple[Value, ...], ...]

    def repair(self, wanted: Mapping[str, Value]) -> tuple[Value, ...]:
        """The legal values nearest to the wanted ones, settled one by one as `Operator.repair` does."""
        left = self.legal
        for index, name in enumerate(self.names):
            values = list(dict.fromkeys(values[index] for values in left))
            settled = nearest(wanted.get(name, values[0]), values)
            left = tuple(values for values in left if values[index] == settled)
        return left[0]


@dataclass(frozen=True, slots=True)
class Divided:
    """The settings of an operator at a place.

    `ways` is the number of legal ones, `signature` a number that places have in common where just the same are legal.
    """

    parts: tuple[Part, ...]
    ways: int
    signature: int


@dataclass(slots=True)
class _Reads:
    """What was read while all values of a setting were tried."""

    names: set[str] = field(default_factory=set)
    width: bool = False
    size: bool = False


class _UnsettledError(Exception):
    """A rule asked for an earlier setting that has no value yet."""


class _WatchedSettings(Mapping[str, Value]):
    """The settings chosen so far, which notes what is read and stops at what is not settled."""

    def __init__(self, chosen: Chosen, earlier: tuple[str, ...], reads: _Reads) -> None:
        self._chosen, self._earlier, self._reads = chosen, earlier, reads

    def __getitem__(self, name: str) -> Value:
        if name not in self._earlier:
            raise KeyError(name)
        self._reads.names.add(name)
        if name not in self._chosen:
            raise _UnsettledError(name)
        return self._chosen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._earlier)

    def __len__(self) -> int:
        return len(self._earlier)


class _WatchedPlace(Place):
    """A place that notes whether its width or its size is read."""

    __slots__ = ("_at", "_reads", "_settings")
    _at: tuple[int, int]
    _reads: _Reads
    _settings: _WatchedSettings

    def __init__(self, width: int, size: int, settings: _WatchedSettings, reads: _Reads) -> None:
        for name, value in (("_at", (width, size)), ("_settings", settings), ("_reads", reads)):
            object.__setattr__(self, name, value)

    @property
    def width(self) -> int:  # type: ignore[override]
        self._reads.width = True
        return self._at[0]

    @property
    def size(self) -> int:  # type: ignore[override]
        self._reads.size = True
        return self._at[1]

    @property
    def chosen(self) -> Mapping[str, Value]:  # type: ignore[override]
        return self._settings


class Independence:
    """The parts of all operators in one space, with their numbers of legal settings, remembered."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._options: dict[tuple[Kind, str], Choices] = {}
        self._known: dict[tuple[Kind, str, str], dict[tuple[int | None, int | None], _Reads]] = {}
        self._interned: dict[tuple[Any, ...], Part] = {}
        self._found: dict[tuple[Any, ...], Part] = {}
        self._places: dict[tuple[Kind, str, int, int], Divided] = {}
        self._signatures: dict[tuple[Any, ...], int] = {}
        self._searched: dict[int, frozenset[str]] = {}
        self.joint: dict[tuple[int, ...], int] = {}
        self.reached: dict[tuple[Any, ...], frozenset[tuple[Value, ...]]] = {}

    def options(self, kind: Kind, name: str) -> Choices:
        """What each setting of an operator may be in this space, those with one value included."""
        known = self._options.get((kind, name))
        if known is None:
            searched = self._space.choices_of(kind, name)
            known = {key: searched.get(key, setting.usual) for key, setting in operator(kind, name).settings.items()}
            self._options[kind, name] = known
        return known

    def searched(self, divided: Divided) -> frozenset[str]:
        """The settings of a token mixer that have genes."""
        if divided.signature not in self._searched:
            genes = {part.operator: self._space.choices_of(part.kind, part.operator).keys() for part in divided.parts}
            self._searched[divided.signature] = frozenset(name for names in genes.values() for name in names)
        return self._searched[divided.signature]

    def at(self, kind: Kind, name: str, width: int, size: int) -> Divided:
        """The settings of an operator at a place, in parts that do not depend on each other."""
        place = (kind, name, width, size)
        found = self._places.get(place)
        if found is None:
            parts = self._divided(*place)
            signature = self._signatures.setdefault((kind, name, *parts), len(self._signatures))
            found = self._places[place] = Divided(parts, math.prod(len(part.legal) for part in parts), signature)
        return found

    def _divided(self, kind: Kind, name: str, width: int, size: int) -> tuple[Part, ...]:
        op, options = operator(kind, name), self.options(kind, name)
        groups: list[_Reads] = []
        for setting in options:
            found = self._reads(op, setting, width, size)
            merged, rest = _Reads(found.names | {setting}, found.width, found.size), []
            for group in groups:
                if group.names.isdisjoint(merged.names):
                    rest.append(group)
                else:
                    merged = _Reads(group.names | merged.names, group.width or merged.width, group.size or merged.size)
            groups = [*rest, merged]
        return tuple(self._part(op, group, width, size) for group in groups)

    def _part(self, op: Operator, group: _Reads, width: int, size: int) -> Part:
        """The one object for some settings at a place, the same wherever nothing differs that their rules read."""
        options = self.options(op.kind, op.name)
        names = tuple(key for key in options if key in group.names)
        place = (op.kind, op.name, names, width if group.width else None, size if group.size else None)
        if place not in self._found:
            found: list[Chosen] = [{}]
            for setting in names:
                found = [after for before in found for after in _settled(op, options, before, setting, width, size, _Reads())]
            content = (op.kind, op.name, names, tuple(tuple(chosen[name] for name in names) for chosen in found))
            self._found[place] = self._interned.setdefault(content, Part(*content))
        return self._found[place]

    def _reads(self, op: Operator, setting: str, width: int, size: int) -> _Reads:
        """What the rule of a setting reads at a place, its dependence on other settings followed to the end."""
        known = self._known.setdefault((op.kind, op.name, setting), {})
        for key in ((None, None), (width, None), (None, size), (width, size)):
            if key in known:
                return known[key]
        reads = _Reads()
        for _ in _settled(op, self.options(op.kind, op.name), {}, setting, width, size, reads):
            pass
        known[width if reads.width else None, size if reads.size else None] = reads
        return reads


def _settled(
    op: Operator, options: Choices, chosen: Chosen, setting: str, width: int, size: int, reads: _Reads
) -> Iterator[Chosen]:
    """`chosen` with each legal value of a setting, and of those earlier ones that its rule asks for."""
    if setting in chosen:
        yield chosen
        return
    names = tuple(op.settings)
    earlier, rule = names[: names.index(setting)], op.settings[setting].rule
    for value in options[setting]:
        open_ = [chosen]
        while open_:
            before = open_.pop()
            try:
                legal = rule(value, _WatchedPlace(width, size, _WatchedSettings(before, earlier, reads), reads))
            except _UnsettledError as missing:
                open_.extend(_settled(op, options, before, str(missing.args[0]), width, size, reads))
            else:
                if legal:
                    yield {**before, setting: value}
