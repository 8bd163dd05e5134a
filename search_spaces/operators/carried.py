"""Contexts that are carried in the last channels of the stream, as OverLoCK carries its overview beside its map."""

from __future__ import annotations

from nas.search_spaces.registry import Setting

CARRIED = Setting(
    (4, 64), lambda v, place: 0 < int(v) < place.width, "the carried channels leave at least one of the stream's own"
)
"""How many of the last channels are the context."""
