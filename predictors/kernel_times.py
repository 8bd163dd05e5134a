"""Node times inside ONNX Runtime: the kernels of each node, cut out of the optimised network, run alone.

ONNX Runtime fuses neighbours, moves maps between layouts and starts a kernel in a microsecond, so that times taken in eager
mode tell little of it. Its profiler is no clock either: what it writes down of a kernel holds two or three times what the
kernel takes, since the shapes of all that it reads are formatted meanwhile. So the kernels of a node run without it, as a model
of their own, several copies of them, and the anchor runs before and after every two nodes. What a call takes without kernels is
taken off. Lower quartiles count: these runs are so short that what disturbs some of them leaves others alone. Of the anchor's
slowness around a visit they feel FELT, as networks do: told so, sums of 113 networks of `mobile` differ from their latencies by
5.1 % (standard deviation beside a trend with size); told by all of the anchor's slowness meanwhile, by 7.6 %.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nas.errors import MeasurementError
from nas.predictors.anchor import anchor
from nas.predictors.fresh_weights import told_apart
from nas.predictors.in_place_timing import time_in_place
from nas.predictors.interleaving import undisturbed
from nas.predictors.latency_table import LatencyTable
from nas.predictors.machine import MachineState, interruptions, machine_state, pinned
from nas.predictors.node_models import NodeModels, run_of
from nas.predictors.node_timing import Refuse, unlooked
from nas.predictors.runtimes.onnxruntime import exported, open_session, session_options
from nas.predictors.samples import Record, unrecorded
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.predictors.timings import FELT, Array, Visit, anchor_median, spread
from nas.predictors.visits import Series
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import Node, nodes

ENOUGH, MOST_COPIES = 2.5e-4, 64
"""Seconds that a node's copies take together, so that what a call takes is small beside them, and how many there are."""
VISITS, MOST_VISITS, AGREED = 3, 6, 0.015
"""Visits of each node, and how many at most where those before spread by more than this of their median."""
LEAD, SPELL, READINGS, TOGETHER = 5e-4, 2e-3, 3, 2
"""Seconds of runs that fill the caches after what ran before, and of those that are read, how many these are at least, and of
how many nodes between two runs of the anchor."""
TRIALS = 3
LEAST = 5e-7
"""Seconds of a node whose kernels were all fused into its neighbours."""
KERNELS, IN_PLACE = "kernels of ONNX Runtime, a node's share of its network", "in place"
IN_TRAINING = "in place, in training networks too"


def node_clock(target: Target) -> str:
    """How the nodes of whole networks are timed on a target: by their kernels, or in place in eager mode; there training
    networks bring theirs along where the target is what runs them."""
    if (target.runtime, target.precision) == ("onnxruntime", "fp32"):
        return KERNELS
    return IN_TRAINING if (target.device, target.runtime, target.place) == ("cpu", "eager", "") else IN_PLACE


def time_in_network(
    architecture: Architecture, table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> list[tuple[Node, float]]:
    """Every node of an architecture with its seconds, by the clock of the table's target.

    None where the network does not run: `refuse` is given its nodes then.
    """
    if node_clock(table.target) != KERNELS:
        return time_in_place([architecture], table, record, refuse)
    try:
        return time_kernels(architecture, table, record)
    except MeasurementError as error:
        refuse(nodes(architecture, None, table.in_channels, table.num_classes), error)
        return []


@dataclass(slots=True)
class _Copies:
    """The copies of one node's kernels that run as one, and their visits; no copies are a call without kernels."""

    label: str
    number: int
    series: Series

    def levels(self, reference: float) -> list[float]:
        """The seconds of a run where the anchor takes `reference`, visit by visit."""
        return [_undisturbed(told_at(visit, reference)) for visit in self.series.visits]

    def level(self, reference: float) -> float:
        """The seconds of a run where the anchor takes `reference`."""
        return _undisturbed(np.concatenate([told_at(visit, reference) for visit in self.series.visits]))


def told_at(visit: Visit, reference: float) -> Array:
    """The seconds of a visit's runs where the anchor takes `reference` instead of what it took around them."""
    return np.asarray(visit.seconds) * (reference / np.asarray(visit.beside)) ** FELT


def _undisturbed(runs: Array) -> float:
    """The lower quartile of runs (seconds)."""
    return float(np.quantile(runs, 0.25))


def time_kernels(
    architecture: Architecture, table: LatencyTable, record: Record = unrecorded, file: Path | None = None
) -> list[tuple[Node, float]]:
    """Every node with the seconds of its kernels, at the speed at which the anchor takes the table's time. Of the moods of this
    machine they feel FELT; of what it is slower or faster than the target's, where that is elsewhere, all.

    `file` is the architecture's export where there is one already. `record` is given the seconds of the runs of every node's
    copies, named `KEY x8` for eight of them, and `x0` for none. Raises MeasurementError where the network cannot be exported,
    taken apart or run.
    """
    target, side = table.target, architecture.resolution
    found = nodes(architecture, None, table.in_channels, table.num_classes)
    example = torch.randn(target.batch, table.in_channels, side, side)
    with (
        tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder,
        threads(target.threads),
        pinned(target.threads) as cpus,
        undisturbed(1),
    ):
        path, optimised = file or Path(folder) / "model.onnx", Path(folder) / "optimised.onnx"
        if file is None:
            exported(told_apart(build(architecture, table.num_classes, table.in_channels)), example, path, light=True)
        options = session_options(target)
        options.optimized_model_filepath = str(optimised)
        open_session(path, options)  # which writes what it runs
        models = NodeModels.cut(optimised, [node.name for node in found], example.numpy(), target)
        call, timed = _prepared(models, found, Path(folder) / "node.onnx", target)
        beside = Series(anchor(target))
        _visit_in_turn([call, *timed.values()], beside, machine_state(cpus))
    for item in (call, *timed.values()):
        for visit in item.series.visits:
            record("node", item.label, visit)
    for visit in beside.visits:
        record("anchor", "", visit)
    here = anchor_median(beside.visits)
    least, speed = call.level(here), ((table.anchor or here) / here) ** (1.0 if target.place else FELT)
    seconds = {place: speed * (item.level(here) - least) / item.number for place, item in timed.items()}
    return [(node, max(seconds.get(place, LEAST), LEAST)) for place, node in enumerate(found)]


def _prepared(models: NodeModels, found: Sequence[Node], path: Path, target: Target) -> tuple[_Copies, dict[int, _Copies]]:
    """A call without kernels, and by place the copies of every node that has kernels, as many as take ENOUGH together.

    Raises MeasurementError where a node's kernels do not run alone.
    """
    call = _Copies("x0", 0, Series(run_of(models.alone(None, 0), path, target)))
    least, timed = _quickest(call.series), {}
    for place, node in enumerate(found):
        if models.groups[place]:
            series = Series(run_of(models.alone(place, 1), path, target), place)
            number = copies_for(_quickest(series) - least)
            if number > 1:
                series = Series(run_of(models.alone(place, number), path, target), place)
                series.once()
            timed[place] = _Copies(f"{node.key} x{number}", number, series)
    return call, timed


def _quickest(series: Series) -> float:
    """The least seconds of some runs after the first. Raises RunFailedError."""
    series.once()
    return min(series.once() for _ in range(TRIALS))


def copies_for(seconds: float) -> int:
    """How many copies of what takes so many seconds are to run as one."""
    return max(1, math.ceil(min(MOST_COPIES, ENOUGH / max(seconds, ENOUGH / MOST_COPIES))))


def _visit_in_turn(items: Sequence[_Copies], beside: Series, state: MachineState) -> None:
    """Visit all, there and back, the anchor before and after some, until their visits agree or MOST_VISITS are made."""
    for number in range(MOST_VISITS):
        active = [item for item in items if number < VISITS or spread(item.levels(1.0)) > AGREED]
        if not active:
            return
        at, anchors = time.time(), [beside.again()]
        turn = active[:: -1 if number % 2 else 1]
        for start in range(0, len(turn), TOGETHER):
            some = turn[start : start + TOGETHER]
            found = [_visit(item, number, state) for item in some]
            anchors.append(beside.again())
            around = (anchors[-2] + anchors[-1]) / 2
            for item, visit in zip(some, found, strict=True):
                item.series.visits.append(replace(visit, beside=(around,) * len(visit.seconds)))
        beside.visits.append(Visit(at, number, tuple(anchors), None, state))


def _visit(item: _Copies, number: int, state: MachineState) -> Visit:
    """A visit without the anchor."""
    began, before = time.time(), interruptions()
    runs = _readings(item.series)
    after = interruptions()
    return Visit(began, number, runs, None if before is None or after is None else after - before, state)


def _readings(series: Series) -> tuple[float, ...]:
    """The seconds of runs during SPELL, at least READINGS, after those of LEAD."""
    clock = time.perf_counter
    lead = clock() + LEAD
    series.once()
    while clock() < lead:
        series.once()
    found: list[float] = []
    until = clock() + SPELL
    while len(found) < READINGS or clock() < until:
        found.append(series.once())
    return tuple(found)
