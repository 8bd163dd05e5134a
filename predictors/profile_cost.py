"""What a profile costs, told before it begins, and the time it takes where nobody says how long it may."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass

from nas.errors import MeasurementError
from nas.predictors.anchor import Anchor
from nas.predictors.energy import energy_seconds
from nas.predictors.energy_profile import numbers_missing
from nas.predictors.export_pool import reads_onnx, usual_workers
from nas.predictors.in_place_timing import PASSES, VISITS, WARM
from nas.predictors.interleaving import Effort
from nas.predictors.kernel_times import IN_TRAINING, KERNELS, node_clock
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.measure import measure_runs, prepare
from nas.predictors.meter import Meter
from nas.predictors.remote.place import place
from nas.predictors.runtime import runtime
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.quantities import format_duration
from nas.search_spaces.backbone import build
from nas.search_spaces.space import SearchSpace

NODE_SHARE = 0.5
NODE_SECONDS = 30.0
NETWORK_SECONDS = 0.75
KERNEL_SECONDS = 1.0
LEAST_SECONDS, LOOKED_SECONDS = 1.25, 20.0
"""What a small network costs at least with its warm-up, rounds and companions, and looking for nodes of operators and sizes
that random networks lack; a profile of `tiny` takes two to three minutes."""
ROUNDS, RUNS_A_ROUND, RUNS = 6, 15, 40
"""Rounds of two visits to each network at least where nobody says how long a profile may take, what each round costs in runs of
a large network, warm-up and companions included, and the runs where somebody does. A shared machine changes its mood within a
second: of three rounds the times of `mobile` in ONNX Runtime are off by 3 %."""
LOOK_SECONDS = 0.05
TRIALS = 10
ANCHOR_SIDE = 64
NETWORKS, CHOSEN = (40, 20), (22, 10)
"""How many networks are learned from and assessed on: where random ones are, and where those to learn from are exported and
chosen for their nodes. Of these, 22 to 40 predict `tiny` alike."""


def numbers(target: Target, train: int | None, held_out: int | None) -> tuple[int, int]:
    """How many networks a profile learns from, and is assessed on: as many as usual for the target where nobody says."""
    usual = CHOSEN if node_clock(target) == KERNELS else NETWORKS
    return usual[0] if train is None else train, usual[1] if held_out is None else held_out


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """About how many seconds the parts of a profile take, how many networks it measures, and of how many the energy is
    `counted`."""

    nodes: float
    preparing: float
    measuring: float
    networks: int
    counting: float = 0.0
    counted: int = 0

    @property
    def total(self) -> float:
        """All of it, in seconds."""
        return self.nodes + self.preparing + self.measuring + self.counting

    def __str__(self) -> str:
        parts = [
            f"{format_duration(self.nodes)} for node times",
            f"{format_duration(self.preparing)} to prepare {self.networks} networks",
            f"{format_duration(self.measuring)} to measure them",
        ]
        if self.counted:
            parts.append(f"{format_duration(self.counting)} to count the energy of {self.counted}")
        return f"about {format_duration(self.total)}: {', '.join(parts)}"


def profile_cost(
    space: SearchSpace,
    target: Target,
    *,
    train: int | None = None,
    held_out: int | None = None,
    seconds: float | None = None,
    table: LatencyTable | None = None,
    inherits: bool = False,
    meter: Meter | None = None,
) -> ProfileCost:
    """The cost of `profile` with these numbers; of what is missing, where a table is given. No node is timed by a profile that
    `inherits` node times, nor for a table that has inherited ones. With a `meter` energy is counted too.

    One network is prepared and run, to know how long that takes here. Raises MeasurementError where TRIALS of them fail.
    """
    known, spent = (0, 0.0) if table is None else (len(table.networks), table.spent)
    train, held_out = numbers(target, train, held_out)
    networks = max(train + held_out - known, 0)
    inherits = inherits or (table is not None and bool(table.ancestry))
    nodes = 0.0 if inherits else max(node_seconds(target, seconds) - spent, 0.0)
    counted = 0 if meter is None else sum(numbers_missing(table, train, held_out).values())
    if networks == counted == 0:
        return ProfileCost(nodes, 0.0, 0.0, 0)
    prepared, once = _one_network(space, target)
    side_by_side = usual_workers() if reads_onnx(target) else 1
    counting = 0.0 if meter is None else counted * (prepared / side_by_side + energy_seconds(meter, once))
    if networks == 0:
        return ProfileCost(nodes, 0.0, 0.0, 0, counting, counted)
    budgeted = default_seconds(target, networks) - node_seconds(target, None) if seconds is None else max(seconds - nodes, 0.0)
    preparing = networks * prepared / min(side_by_side, networks)
    if not inherits and seconds is None:  # else the budget pays for it
        nodes += LOOKED_SECONDS if known == 0 else 0.0
        each = {KERNELS: KERNEL_SECONDS, IN_TRAINING: once * VISITS * (WARM + PASSES)}.get(node_clock(target), 0.0)
        nodes += each * max(train - (0 if table is None else len(list(table.of_role(TRAIN)))), 0)
    runs, least = (RUNS, 0.0) if seconds is not None else (ROUNDS * RUNS_A_ROUND, LEAST_SECONDS)
    measuring = max(budgeted - preparing, networks * max(once * runs, least))
    return ProfileCost(nodes, preparing, measuring, networks, counting, counted)


def default_seconds(target: Target, networks: int) -> float:
    """The time budget of a profile: node times, and preparing and measuring the networks."""
    preparation = place(target.place).preparation if target.place else runtime(target.runtime).preparation
    return node_seconds(target, None) + networks * (NETWORK_SECONDS + 1.25 * preparation)


def node_seconds(target: Target, seconds: float | None, *, active: bool = False) -> float:
    """What a profile may spend on node times alone, of a budget or without one: nothing where exported networks bring all of
    them along, unless networks are chosen (`active`) by them."""
    if node_clock(target) == KERNELS and not active:
        return 0.0
    return NODE_SECONDS if seconds is None else NODE_SHARE * seconds


def _one_network(space: SearchSpace, target: Target) -> tuple[float, float]:
    """The seconds to prepare a random network that the target does not refuse, and of one run of it.

    The first preparation of a process also loads the exporter: one that is not timed goes before.
    """
    with contextlib.suppress(MeasurementError), threads(target.threads):
        prepare(Anchor(), target, ANCHOR_SIDE)
    for index in range(TRIALS):
        member = space.sample(random.Random(index))
        try:
            with threads(target.threads):
                start = time.perf_counter()
                run = prepare(build(member), target, member.resolution)
                prepared = time.perf_counter() - start
            return prepared, measure_runs([run], target, [member.resolution], effort=Effort(LOOK_SECONDS, 1))[0].median
        except MeasurementError:
            if index == TRIALS - 1:
                raise
    raise AssertionError("unreachable: the last trial returns or raises")
