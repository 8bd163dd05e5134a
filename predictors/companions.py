"""Companions: a few measured networks that run beside every later group, and tell how fast the machine is for networks.

The anchor answers within milliseconds, but not as networks do: its maps stay in the caches that other guests of a processor
fight for. Groups of networks that it alone told, minutes apart on a shared machine, differed by up to 20 % for no reason of
their own in ONNX Runtime, and by 5 % in eager mode. Networks of the same space in the same runtime feel what the others feel;
what they take now against what they took at first is told of all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.latency_table import LatencyTable, NetworkTime
from nas.predictors.timings import Measurement
from nas.search_spaces.architecture import Architecture

Run = Callable[[], object]
COMPANIONS, LEAST, NETWORKS_EACH = 4, 3, 3
"""The most companions of a group, the fewest that tell more than they disturb, and for how many networks one is."""
COMPILING = ("compile",)
"""Runtimes of which a process keeps only few networks compiled."""


@dataclass
class Companions:
    """The companions of the groups of one sitting, as their runs by digest; `tried` are those that could not be prepared."""

    table: LatencyTable
    runs: dict[str, Run] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    given_up: bool = False

    def beside(self, number: int, prepare: Callable[[Architecture], Run]) -> list[NetworkTime]:
        """The companions of a group of so many networks: none of a small group, before a network is measured, nor where groups
        are small because the target is elsewhere. `prepare` makes a run; who it raises MeasurementError for is no companion."""
        wanted, networks = self._wanted(number), self.table.networks
        missing = wanted - len(self.runs)
        if missing > 0:
            others = [item for digest, item in networks.items() if digest not in self.runs and digest not in self.tried]
            for item in _spread(others, missing):
                self.tried.add(item.architecture.digest)
                with contextlib.suppress(MeasurementError):
                    self.runs[item.architecture.digest] = prepare(item.architecture)
        found = [networks[digest] for digest in self.runs][:wanted]
        return found if len(found) >= LEAST else []

    def keep(self, measured: Mapping[str, Run]) -> None:
        """Take the companions of later groups from one that was just measured, whose runs are there, where there are none."""
        if not self.runs and self._wanted(len(measured)):
            chosen = _spread([self.table.networks[digest] for digest in measured], COMPANIONS)
            self.runs = {item.architecture.digest: measured[item.architecture.digest] for item in chosen}

    def give_up(self) -> None:
        """Without companions from now on: they may take the memory that others lack."""
        self.given_up = True
        self.runs.clear()

    def _wanted(self, number: int) -> int:
        none = self.given_up or self.table.target.place or self.table.target.runtime in COMPILING
        wanted = min(COMPANIONS, number // NETWORKS_EACH)
        return 0 if none or wanted < LEAST else wanted


def level(before: Sequence[Measurement], now: Sequence[Measurement]) -> float:
    """How many times slower than when they were first measured companions run now, by their median; 1 without any."""
    pairs = [(old.quiet, new.quiet) for old, new in zip(before, now, strict=True) if old.quiet and new.quiet]
    return float(np.exp(np.median([np.log(new / old) for old, new in pairs]))) if pairs else 1.0


def _spread(networks: Iterable[NetworkTime], number: int) -> list[NetworkTime]:
    """So many networks, evenly through the quiet times of those whose are known, the middle ones first."""
    known = [item for item in networks if item.measurement.quiet is not None]
    ordered = sorted(known, key=lambda item: (item.measurement.quiet or 0.0, item.architecture.digest))
    places = {(2 * place + 1) * len(ordered) // (2 * number) for place in range(number)} if ordered else set()
    return [ordered[place] for place in sorted(places, key=lambda place: abs(place - len(ordered) / 2))]
