"""Measuring whole networks into a table: what the runtime refuses is named and left out, a device that is gone ends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.census import MAX_CENSUS, together
from nas.predictors.companions import Companions, level
from nas.predictors.export_pool import ExportPool
from nas.predictors.in_place_timing import time_each_in_place
from nas.predictors.interleaving import Effort
from nas.predictors.kernel_times import KERNELS, node_clock, time_kernels
from nas.predictors.latency_table import NETWORK, TRAIN, LatencyTable, NetworkTime
from nas.predictors.measure import Run, measure_runs, noise, prepare, run_once
from nas.predictors.node_shares import Timed, level_nodes, share, shared_out
from nas.predictors.refusal import refusals
from nas.predictors.samples import Record
from nas.predictors.threads import threads
from nas.predictors.timings import Measurement, Visit
from nas.predictors.visits import RunFailedError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.exclusion import operators_in
from nas.search_spaces.space import SearchSpace

Wanted = tuple[Architecture, str]
MAX_UNEXPLAINED = 3


class DeviceLostError(MeasurementError):
    """The target runs nothing any more, not even what it ran before."""


@dataclass
class NetworkProfile:
    """Measures groups of networks of a space into a table, each beside a few `companions` that were measured before.

    `record` is given the raw samples, `exports` writes the networks of a group to files where the target reads files, `last` is
    what was measured, and `spent` the seconds of measuring alone. With `bring` the training networks give node times too,
    which are `timed` until the network itself is measured; among the raw samples their `number`s follow the census's.
    """

    space: SearchSpace
    table: LatencyTable
    record: Record
    exports: ExportPool
    bring: bool = False
    last: list[Architecture] = field(default_factory=list)
    timed: dict[str, Timed] = field(default_factory=dict)
    spent: float = 0.0
    number: int = MAX_CENSUS
    companions: Companions = field(init=False)

    def __post_init__(self) -> None:
        self.companions = Companions(self.table)

    def measure(self, group: Sequence[Wanted], effort: Effort) -> None:
        """Measure the networks of a group that the target runs, and record in the table what it refuses.

        Raises DeviceLostError where the target stopped running networks, MeasurementError where it refuses nearly all.
        """
        runs: list[tuple[Wanted, Run]] = []
        self.last, self.spent = [], 0.0
        kernels = node_clock(self.table.target) == KERNELS
        if self.bring and not kernels:
            self._time_in_place([item for item, role in group if role == TRAIN])
        files = self.exports.files([item for item, _ in group if operators_in(item).isdisjoint(self.table.excluded)])
        for wanted in group:
            if not operators_in(wanted[0]).isdisjoint(self.table.excluded):
                continue
            file = files.get(wanted[0].digest)
            try:
                runs.append((wanted, self._prepare(wanted[0], file)))
            except MeasurementError as error:
                self._refuse(wanted[0], error)
                continue
            if self.bring and kernels and wanted[1] == TRAIN:
                self._time_kernels(wanted[0], file if isinstance(file, Path) else None)
            if isinstance(file, Path):
                file.unlink()
        while runs:
            beside = self.companions.beside(len(runs), self._prepare_alone)
            try:
                self._measure(runs, beside, effort)
            except RunFailedError as error:
                if error.position is None:
                    raise DeviceLostError(str(error)) from error
                if beside:  # they may be what fails, or take the memory that a network lacks
                    self.companions.give_up()
                    continue
                self._refuse(runs.pop(error.position)[0][0], error)
            else:
                self.last = [architecture for (architecture, _), _ in runs]
                self.companions.keep({architecture.digest: run for (architecture, _), run in runs})
                return

    def _time_kernels(self, architecture: Architecture, file: Path | None) -> None:
        """Take the network's node times. A network that runs and whose kernels cannot be told apart goes without them."""
        try:
            found = time_kernels(architecture, self.table, self.record, file)
        except MeasurementError as error:
            if self.table.target.place:
                raise MeasurementError(
                    f"the nodes of {self.table.target} are timed on this machine, which fails: {error}"
                ) from error
            return
        self.timed[architecture.digest] = found

    def _time_in_place(self, group: Sequence[Architecture]) -> None:
        """Take the node times of networks, as many together as fit into memory; of those that do not run, none."""
        allowed = [item for item in group if operators_in(item).isdisjoint(self.table.excluded)]
        size = min((together(item, self.table) for item in allowed), default=1)
        for start in range(0, len(allowed), size):
            some = allowed[start : start + size]
            for architecture, found in zip(some, time_each_in_place(some, self.table, self.record, self.number), strict=True):
                self.timed[architecture.digest] = found
            self.number += len(some)

    def _add_nodes(self, measured: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Add the node times that were taken of networks which are measured now; away from here each is on another machine.

        Nodes whose kernels were timed before any network was measured are brought to what the first ones take.
        """
        table, kernels = self.table, node_clock(self.table.target) == KERNELS
        brought: Timed = []
        factors: dict[str, float] = {}
        for architecture, measurement in measured:
            found = self.timed.pop(architecture.digest, [])
            if found and not table.target.place:
                found, factor = shared_out(found, measurement.quiet or measurement.median, share(table))
                factors[architecture.digest] = factor
            brought += found
        if kernels and factors and not table.factors:
            level_nodes(table, float(np.median(list(factors.values()))))
        for node, seconds in brought:
            table.add_node(node, seconds)
        table.factors |= factors

    def _prepare(self, architecture: Architecture, file: Path | MeasurementError | None) -> Run:
        """A run of the network, from its file where there is one; what kept it from being written is raised."""
        if isinstance(file, MeasurementError):
            raise file
        table = self.table
        model = file or build(architecture, table.num_classes, table.in_channels)
        with threads(table.target.threads):
            return prepare(model, table.target, architecture.resolution, table.in_channels)

    def _prepare_alone(self, architecture: Architecture) -> Run:
        """A run of one network. Raises MeasurementError."""
        file = self.exports.files([architecture]).get(architecture.digest)
        try:
            return self._prepare(architecture, file)
        finally:
            if isinstance(file, Path):
                file.unlink()

    def _measure(self, runs: Sequence[tuple[Wanted, Run]], beside: Sequence[NetworkTime], effort: Effort) -> None:
        """Measure a group with companions `beside` it, which take their part of the time, and tell quiet times as these do."""
        table, began = self.table, time.perf_counter()
        series = [(architecture, run) for (architecture, _), run in runs]
        series += [(item.architecture, self.companions.runs[item.architecture.digest]) for item in beside]

        def watch(position: int | None, visits: Sequence[Visit]) -> None:
            what, name = ("anchor", "") if position is None else ("network", series[position][0].digest)
            for visit in visits:
                self.record(what if position is None or position < len(runs) else "companion", name, visit)

        found = measure_runs(
            [run for _, run in series],
            table.target,
            [architecture.resolution for architecture, _ in series],
            effort=replace(effort, seconds=effort.seconds * len(runs) / len(series)),
            seed=table.seed,
            speed=table.speed,
            watch=watch,
        )
        slower = level([item.measurement for item in beside], found[len(runs) :])
        measured = []
        for ((architecture, role), _), taken in zip(runs, found, strict=False):
            measurement = taken if taken.quiet is None else replace(taken, quiet=taken.quiet / slower)
            table.add(architecture, measurement, role)
            measured.append((architecture, measurement))
        self._add_nodes(measured)
        self.spent = time.perf_counter() - began

    def _refuse(self, architecture: Architecture, error: MeasurementError) -> None:
        """Record what is to blame for a network that does not run. Raises where nothing runs."""
        table = self.table
        known = next(iter(table.networks.values()), None)
        if known is not None and not self._runs(known.architecture):
            raise DeviceLostError(str(error)) from error
        try:
            blamed = refusals(architecture, self.space, table.target, table.in_channels, table.num_classes)
        except MeasurementError as nothing:
            raise DeviceLostError(str(nothing)) from error
        for found in blamed:
            table.refused[found.label] = {"reason": found.reason, "share": found.share}
        if operators_in(architecture).isdisjoint(table.excluded):
            table.refused[f"{NETWORK}{architecture.digest}"] = {"reason": str(error), "share": 0.0}
        unexplained = [label for label in table.refused if label.startswith(NETWORK)]
        if len(unexplained) >= MAX_UNEXPLAINED and len(unexplained) > len(table.networks):
            for label in unexplained:
                del table.refused[label]
            raise MeasurementError(f"{table.target} runs next to no network of space {table.space!r}: {error}") from error

    def _runs(self, architecture: Architecture) -> bool:
        """Whether a network that was measured before still runs."""
        table = self.table
        model = build(architecture, table.num_classes, table.in_channels)
        try:
            run_once(model, noise(table.target, architecture.resolution, table.in_channels), table.target)
        except MeasurementError:
            return False
        return True
