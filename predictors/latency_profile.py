"""Profiling a target: node times in context and random whole networks, within a time budget, resumable at any moment."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nas.errors import FileError, MeasurementError
from nas.files import sole_writer
from nas.predictors.census import node_batches
from nas.predictors.coverage import covering_batches
from nas.predictors.energy_profile import count_energies, require_same_meter
from nas.predictors.environment import DECISIVE, differences, environment
from nas.predictors.export_pool import ExportPool
from nas.predictors.inheritance import Ancestors
from nas.predictors.interleaving import Effort
from nas.predictors.kernel_times import IN_PLACE, IN_TRAINING, KERNELS, node_clock
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.measure import anchor_seconds
from nas.predictors.meter import Meter, meter_of
from nas.predictors.network_profile import DeviceLostError, NetworkProfile
from nas.predictors.node_refusal import NodeRefusals
from nas.predictors.node_shares import share, usual_factor
from nas.predictors.outsized import outsized_batches
from nas.predictors.profile_cost import NETWORK_SECONDS, ROUNDS, node_seconds, numbers
from nas.predictors.profiled_networks import ProfiledNetworks
from nas.predictors.remote.place import environment_of
from nas.predictors.samples import SampleFile, samples_path
from nas.predictors.target import Target
from nas.predictors.timings import SLOWED
from nas.predictors.visits import RunFailedError
from nas.predictors.weights import weight_bytes
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node
from nas.search_spaces.space import SearchSpace

Progress = Callable[[int, int, str], None]
SAVE_SECONDS = 3.0
COOLING_SECONDS = 5.0
MIN_SECONDS = 0.05
LOOKING_SECONDS = 30.0
"""A smaller budget has no time to spare for looking for large nodes, which takes some seconds by itself."""
MEASURED = 0.8
GROUP, GROUP_AWAY, GROUP_BYTES, GROUP_SECONDS = 20, 4, 1 << 30, 60.0
"""Networks that are measured in turn, here and at another place, about how large they are together, and how long it takes: the
more, the more of the machine's moods each of them meets."""


def profile(
    space: SearchSpace,
    target: Target,
    table_path: Path,
    *,
    in_channels: int = 3,
    num_classes: int = 1000,
    seed: int = 0,
    train: int | None = None,
    held_out: int | None = None,
    seconds: float | None = None,
    active: bool = False,
    known: Sequence[LatencyTable] = (),
    energy: bool = False,
    progress: Progress = lambda done, total, label: None,
) -> LatencyTable:
    """Measure the space on the target into the table at `table_path`, and return it.

    Half of `seconds` goes to node times of the space's random members, the rest to `train` and `held_out` random networks, all
    of which are measured even where that takes longer, as are the nodes of operators and (in LOOKING_SECONDS or more) sizes
    that these lack; without `seconds`, NODE_SECONDS, and for each network NETWORK_SECONDS, or ROUNDS rounds where these take
    longer. As many networks as usual where no number is given (`nas.predictors.profile_cost`): 40 and 20, or 22 and 10 where
    they are exported and their kernels timed. Training networks bring node times along in eager mode on this CPU (in
    LOOKING_SECONDS or more), and where the nodes of exported networks are timed: there they are chosen for them
    (`nas.predictors.node_cover`). What the file holds already is not measured again: a killed profile goes on, larger numbers
    extend it, and `seconds` is for what is missing. In the end all times are told at the median speed of the machine meanwhile.
    The file is rewritten every few seconds, and every raw sample is appended to `samples_path(table_path)`. Operators that the
    target refuses are named in `LatencyTable.refused`, and networks without them are drawn instead. Everything but the clock
    follows from `seed`, but which nodes are larger than those of random networks, which their times tell, and which networks
    are learned from where they are chosen by what is measured rather than drawn: those of an `active` profile, and those that
    are left of one for its nodes that was stopped, is extended, or met refusals. Given tables of other targets that
    are `known`, no node is timed: node times are inherited from them (see `nas.predictors.inheritance`), and 20 chosen networks
    are enough; without `known` such a table keeps them. With `energy` that of a part of the networks is counted in the end,
    however long it takes (`nas.predictors.energy_profile`). Raises FileError where the file is of another target, question,
    machine or library, is being written by another process, or `known` do not fit it, and MeasurementError where the target
    cannot be measured or is lost on the way, or its energy cannot be counted.
    """
    target.require()
    meter = meter_of(target) if energy else None
    with sole_writer(table_path):
        table = open_table(space, target, table_path, in_channels, num_classes, seed)
        ancestors = Ancestors(known) if known else None
        if ancestors is not None:
            ancestors.require(table)
        if meter is not None:
            require_same_meter(table, meter, table_path)
        session = _Session(space, table, table_path, *numbers(target, train, held_out), active, ancestors, meter)
        session.run(seconds, progress)
    return table


class _Session:
    """One sitting of a profile: what it measures goes into the table, and with it into its file."""

    def __init__(
        self,
        space: SearchSpace,
        table: LatencyTable,
        path: Path,
        train: int,
        held_out: int,
        active: bool = False,
        ancestors: Ancestors | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.space, self.table, self.path = space, table, path
        self.train, self.held_out = train, held_out
        self.active, self.ancestors, self.meter = active, ancestors, meter
        self.networks = ProfiledNetworks(space, table, train, held_out, active, ancestors)
        self.samples = SampleFile(samples_path(path), table.target, table.environment["runtime"])
        self.started = self.saved = time.perf_counter()
        self.before = table.spent
        self.client_told = False

    @property
    def elapsed(self) -> float:
        """Seconds since this sitting began."""
        return time.perf_counter() - self.started

    def run(self, seconds: float | None, progress: Progress) -> None:
        """Measure what is missing, as `profile` says, and save it however this ends."""
        table = self.table
        inherits = self.ancestors is not None or bool(table.ancestry)
        clock = node_clock(table.target)
        kernels = clock == KERNELS and not inherits
        alone = node_seconds(table.target, seconds, active=self.active)
        large = seconds is None or seconds >= LOOKING_SECONDS
        try:
            if not inherits:
                self.require_clock()
            if not inherits and alone > 0:
                self.time_nodes(alone, progress)
            if not (inherits or kernels):
                self.cover_operators(progress, large=large)
            self.measure_networks(seconds, progress, bring=kernels or (large and not inherits and clock == IN_TRAINING))
            if kernels:
                self.cover_operators(progress, large=large)
            if self.ancestors is not None:
                self.ancestors.bequeath(table)
            if self.meter is not None:
                self.count_energies(self.meter, progress)
        finally:
            anchors = [item.measurement.anchor for item in table.networks.values() if item.measurement.anchor]
            if anchors:
                table.tell_at(statistics.median(anchors), share(table) if table.factors or table.ancestry else 0.0)
            self.save()

    def save(self, every: float = 0.0) -> None:
        """Write samples and table, unless the last time is less than `every` seconds ago."""
        self.table.spent = self.before + self.elapsed
        if time.perf_counter() - self.saved >= every:
            self.samples.flush()
            self.table.save(self.path)
            self.saved = time.perf_counter()

    def time_nodes(self, seconds: float, progress: Progress) -> None:
        """Take node times until the table has cost so many seconds.

        Nodes that the target refuses are left out, and the operators to blame are recorded. Raises FileError where the table's
        node times were taken on another machine, and MeasurementError where the target runs nothing any more.
        """
        refusals = NodeRefusals(self.space, self.table)
        try:
            for batch, number in node_batches(self.space, self.table, self.samples.add, refusals.look):
                self.save(SAVE_SECONDS)
                if self.table.spent >= seconds:
                    break
                self._time(batch, progress)
                self.table.census += number
            refusals.record()
        except (DeviceLostError, RunFailedError) as error:
            raise self._lost(error) from error

    def cover_operators(self, progress: Progress, *, large: bool) -> None:
        """Take node times of the operators that have none yet, and with `large` once of nodes larger than those of random
        networks; raises what `time_nodes` does."""
        look = large and not self.table.outsized
        try:
            for batches in (covering_batches, outsized_batches) if look else (covering_batches,):
                refusals = NodeRefusals(self.space, self.table)
                for batch in batches(self.space, self.table, self.samples.add, refusals.look):
                    self.save(SAVE_SECONDS)
                    self._time(batch, progress)
                refusals.record()
            self.table.outsized |= look
        except (DeviceLostError, RunFailedError) as error:
            raise self._lost(error) from error

    def require_clock(self) -> None:
        """Raise FileError where the table's node times were taken by another clock than those to come."""
        clock, before = node_clock(self.table.target), self.table.environment.get("nodes", IN_PLACE)
        if self.table.nodes and before != clock:
            raise FileError(f"latency table {self.path} has nodes timed another way: {before}, not {clock}; name another --out")
        self.table.environment["nodes"] = clock

    def _time(self, batch: Callable[[], list[tuple[Node, float]]], progress: Progress) -> None:
        if self.table.target.place and not self.client_told:
            self._tell_client()
        shares = self.table.environment.get("nodes") == KERNELS and not self.table.target.place
        factor = usual_factor(self.table) if shares else 1.0
        for node, taken in batch():
            self.table.add_node(node, taken * factor)
        total = self.train + self.held_out
        progress(min(len(self.table.networks), total), total, f"{len(self.table.nodes)} node times")

    def _tell_client(self) -> None:
        """Record this machine, which times the nodes of a target elsewhere. Raises FileError where it was another one."""
        table, here = self.table, environment()
        changed = differences(table.environment.get("client", {}), here) if table.nodes else []
        if changed:
            raise FileError(
                f"the node times of latency table {self.path} were taken on another machine than this: {'; '.join(changed)}; "
                "go on there, or name another --out"
            )
        table.environment["client"] = {name: here[name] for name in DECISIVE if name in here}
        self.client_told = True

    def measure_networks(self, budget: float | None, progress: Progress, *, bring: bool = False) -> None:
        """Measure the missing networks, each for its share of what is left of the budget (seconds), or for as long as usual.

        With `bring` the training networks bring node times along.
        """
        table = self.table
        if bring and table.target.place and any(role == TRAIN for _, role in self.networks.left()):
            self._tell_client()
        with ExportPool(table.target, table.num_classes, table.in_channels) as exports:
            networks = NetworkProfile(self.space, table, self.samples.add, exports, bring)
            self._measure_left(networks, budget, progress)

    def _measure_left(self, networks: NetworkProfile, budget: float | None, progress: Progress) -> None:
        total, cooling, left = self.train + self.held_out, COOLING_SECONDS, self.networks.left()
        size = most = self._most(left)
        while left:
            self.save()
            share = NETWORK_SECONDS if budget is None else (budget - self.elapsed) / len(left)
            effort = Effort(max(share * MEASURED, MIN_SECONDS), ROUNDS if budget is None else 3, cooling=cooling)
            refused = len(self.table.refused)
            try:
                networks.measure(left[:size], effort)
            except DeviceLostError as error:
                raise self._lost(error) from error
            if any(self.table.networks[item.digest].measurement.slowed > SLOWED for item in networks.last):
                cooling = 0.0  # it did not recover in the time it was given
            left = left[size:] if len(self.table.refused) == refused else self.networks.left()
            if networks.spent:
                size = max(1, min(most, round(size * GROUP_SECONDS / networks.spent)))
            progress(total - len(left), total, "whole networks")

    def count_energies(self, meter: Meter, progress: Progress) -> None:
        """Count the energy of the networks that lack it; raises what `energy_profile.count_energies` raises."""
        for done, total in count_energies(self.table, meter, self.samples.add_energy):
            self.save(SAVE_SECONDS)
            progress(done, total, "energy")

    def _most(self, left: Sequence[tuple[Architecture, str]]) -> int:
        """How many networks are measured in turn: fewer where they are large, or travel to an agent in one message."""
        table = self.table
        if table.target.place or not left:
            return GROUP_AWAY
        return max(1, min(GROUP, GROUP_BYTES // weight_bytes(left[0][0], table)))

    def _lost(self, error: MeasurementError) -> MeasurementError:
        """The error for a target that runs nothing any more."""
        return MeasurementError(
            f"{self.table.target} stopped answering after {len(self.table.networks)} of {self.train + self.held_out} networks: "
            f"{error}; what was measured is kept in {self.path}: the same command goes on once the device is back"
        )


def open_table(
    space: SearchSpace, target: Target, path: Path, in_channels: int, num_classes: int, seed: int
) -> LatencyTable:  # fmt: skip
    """The table of a file, or a new one. Raises FileError where it is of another target, question, machine or library."""
    now = environment_of(target)
    if path.exists():
        table = LatencyTable.load(path, target)
        for name, wanted in (("space", space.name), ("in_channels", in_channels), ("num_classes", num_classes), ("seed", seed)):
            if getattr(table, name) != wanted:
                raise FileError(f"latency table {path} has {name} {getattr(table, name)}, not {wanted}; name another file")
        changed = differences(table.environment, now)
        if changed:
            raise FileError(
                f"latency table {path} was measured elsewhere: {'; '.join(changed)}; go on there, or name another --out"
            )
        python = table.environment.get("python", now["python"])
        if python != now["python"]:
            table.breaks.append(f"python was {python}, is {now['python']}")
            table.environment["python"] = now["python"]
    else:
        table = LatencyTable(target, space.name, in_channels, num_classes, seed)
    table.environment = table.environment or now
    table.anchor = table.anchor or anchor_seconds(target)
    return table
