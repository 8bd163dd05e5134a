"""What a structure is: how the architecture columns of a table are read, and the registry of structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from nas.errors import UsageError
from nas.plugins import discover
from nas.predictors.surrogates.layout import Flags, Integers
from nas.predictors.timings import Array

Groups = dict[str, list[Array]]
"""Parts (n, ...) of each group of a layout."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features of rows by group, whether each row is a network at all (n,), and a line about those that are not.

    `twins` (n,) are numbers, the same for rows that are the same network written in other ways; None where there are none.
    """

    groups: Groups
    valid: Flags
    note: str = ""
    twins: Integers | None = None


Matches = Callable[[Sequence[str]], bool]
Encode = Callable[[Mapping[str, Array], Mapping[str, Array]], Encoded]


@dataclass(frozen=True, slots=True)
class Structure:
    """A way to read architecture columns: whether it can, from their names, and the features it makes.

    `encode` is given the architecture columns and the size columns (MACs, parameters), each (n,) by name.
    """

    name: str
    matches: Matches
    encode: Encode
    rank: int


_STRUCTURES: dict[str, Structure] = {}


def register_structure(name: str, *, matches: Matches, rank: int = 0) -> Callable[[Encode], Encode]:
    """Announce a function `(architecture columns, size columns) -> Encoded`; the lowest rank that matches is taken."""

    def announce(encode: Encode) -> Encode:
        _STRUCTURES[name] = Structure(name, matches, encode, rank)
        return encode

    return announce


@cache
def _discover() -> None:
    discover("nas.predictors.tables.structures", "nas.table_structures")


def structure_names() -> list[str]:
    """The registered structures, sorted."""
    _discover()
    return sorted(_STRUCTURES)


def structure_of(columns: Sequence[str]) -> Structure:
    """The structure that reads columns of these names. Raises UsageError where none does."""
    _discover()
    found = sorted((one for one in _STRUCTURES.values() if one.matches(columns)), key=lambda one: one.rank)
    if not found:
        shown = ", ".join(list(columns)[:6]) or "none"
        raise UsageError(f"no structure reads the architecture columns {shown}; known: {', '.join(structure_names())}")
    return found[0]
