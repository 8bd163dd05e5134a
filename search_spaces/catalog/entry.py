"""What the catalogue says of a published backbone, and the list of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from nas.errors import SpaceError, UnknownNameError
from nas.plugins import discover
from nas.search_spaces.architecture import Architecture

if TYPE_CHECKING:
    from nas.search_spaces.catalog.weights import Rules


@dataclass(frozen=True, slots=True)
class Entry:
    """A published backbone.

    `params` and `macs` are ours at `resolution` with `num_classes` outputs; `source` is the implementation whose parameters
    they equal to the last one unless `note` says otherwise. `top1` is the published ImageNet-1k accuracy in percent without
    extra data, None where there is none that compares; `note` says what it hides. `timm` names the timm model whose weights
    `rules` translate.
    """

    name: str
    make: Callable[[], Architecture]
    params: int
    macs: int
    resolution: int
    top1: float | None
    cite: str
    source: str
    timm: str | None = None
    rules: Callable[[], Rules] | None = None
    num_classes: int = 1000
    note: str = ""

    @property
    def architecture(self) -> Architecture:
        """The point of the space."""
        return self.make()

    def to_mapping(self) -> dict[str, str | int | float | None]:
        """What `nas catalog --json` tells of it."""
        return {
            "name": self.name,
            "params": self.params,
            "macs": self.macs,
            "resolution": self.resolution,
            "top1": self.top1,
            "citation": self.cite,
            "source": self.source,
            "timm": self.timm,
            "note": self.note,
        }


_ENTRIES: dict[str, Entry] = {}


def add(entry: Entry) -> None:
    """Put a backbone into the catalogue. Raises SpaceError where the name is taken."""
    if entry.name in _ENTRIES:
        raise SpaceError(f"the catalogue has {entry.name!r} twice: rename one of them")
    _ENTRIES[entry.name] = entry


@cache
def _load() -> None:
    """Import every family's file."""
    discover("nas.search_spaces.catalog")


def entry(name: str) -> Entry:
    """The backbone of that name. Raises UnknownNameError with the nearest one."""
    _load()
    if name not in _ENTRIES:
        raise UnknownNameError("catalogue backbone", name, sorted(_ENTRIES))
    return _ENTRIES[name]


def entries() -> Iterator[Entry]:
    """All backbones by name."""
    _load()
    return (_ENTRIES[name] for name in sorted(_ENTRIES))
