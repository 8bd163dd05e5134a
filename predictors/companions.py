"""Companions: a few measured networks that run beside every later group, and tell how fast the machine is for networks.

The anchor answers within milliseconds, but not as networks do: its maps stay in the caches that other guests of a processor
fight for. Groups of networks that it alone told, minutes apart on a shared machine, differed by up to 20 % for no reason of
their own in ONNX Runtime, and by 5 % in eager mode. Networks of the same space in the same runtime feel what the others feel;
what they take now against what they took at first is told of all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.latency_table import LatencyTable, NetworkTime
from nas.predictors.timings import Measurement
from nas.search_spaces.architecture import Architecture

COMPANIONS = 4
SHARE = 3
"""A group has a companion for so many networks, and COMPANIONS at most."""


@dataclass
class Companions:
    """The companions of the groups of one sitting: the digests of those that are `left` to be prepared, chosen when the first
    group needs them, and the runs of the others by digest."""

    table: LatencyTable
    left: list[str] | None = None
    runs: dict[str, Callable[[], object]] = field(default_factory=dict)

    def beside(self, number: int, prepare: Callable[[Architecture], Callable[[], object]]) -> list[NetworkTime]:
        """The companions of a group of so many networks, none where the table holds no network yet or the target is elsewhere,
        where groups are small; `prepare` makes the run of one, and one that it raises MeasurementError for is no companion."""
        wanted, networks = 0 if self.table.target.place else min(COMPANIONS, number // SHARE), self.table.networks
        if self.left is None and wanted and networks:
            self.left = [item.architecture.digest for item in _spread(networks.values(), COMPANIONS)]
        while self.left and len(self.runs) < wanted:
            digest = self.left.pop(0)
            with contextlib.suppress(MeasurementError):
                self.runs[digest] = prepare(networks[digest].architecture)
        return [networks[digest] for digest in self.runs][:wanted]

    def drop(self, digest: str) -> None:
        """Without a companion that no longer runs."""
        del self.runs[digest]


def level(before: Sequence[Measurement], now: Sequence[Measurement]) -> float:
    """How many times slower than when they were first measured companions run now; 1 without any."""
    pairs = [(old.quiet, new.quiet) for old, new in zip(before, now, strict=True) if old.quiet and new.quiet]
    return float(np.exp(np.mean([np.log(new / old) for old, new in pairs]))) if pairs else 1.0


def _spread(networks: Iterable[NetworkTime], number: int) -> list[NetworkTime]:
    """So many networks, evenly through the quiet times of those whose are known, the middle ones first."""
    known = [item for item in networks if item.measurement.quiet is not None]
    ordered = sorted(known, key=lambda item: (item.measurement.quiet or 0.0, item.architecture.digest))
    places = {(2 * place + 1) * len(ordered) // (2 * number) for place in range(number)} if ordered else set()
    return [ordered[place] for place in sorted(places, key=lambda place: abs(place - len(ordered) / 2))]
