"""Published backbones: `nas.catalog.names()`, `nas.catalog.get("swin_t")`, `nas.catalog.load_timm("swin_t", model)`."""

from __future__ import annotations

from nas.search_spaces.architecture import Architecture
from nas.search_spaces.catalog.entry import Entry, entries, entry
from nas.search_spaces.catalog.loading import load_timm

__all__ = ["about", "get", "load_timm", "names"]


def names() -> list[str]:
    """All backbones of the catalogue, sorted."""
    return [found.name for found in entries()]


def get(name: str) -> Architecture:
    """A backbone as a point of the search space. Raises UnknownNameError with the nearest name."""
    return entry(name).architecture


def about(name: str) -> Entry:
    """What the catalogue says of a backbone: parameters, MACs, resolution, accuracy, citation. Raises UnknownNameError."""
    return entry(name)
