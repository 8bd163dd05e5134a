"""Timing nodes in their place, inside networks in eager mode on a CPU.

A machine is disturbed for parts of a second at a time, and what runs meanwhile takes up to half as long again. Passes one after
another meet one mood, and all nodes of a network with it. So some networks are built together and visited in turn: timed twice,
the sums of 40 networks of `mobile` on a noisy machine differed by 5.3 % before, and by 4.2 % since.

What slows the anchor slows nodes by less, as it does networks (`nas.predictors.quiet`): told by all of the anchor's slowness
the sums of 140 networks of `mobile` missed their latencies by 4.8 and 5.6 % in two looks, told by FELT of it by 4.5 and 4.7 %.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from nas.errors import MeasurementError
from nas.predictors.anchor import anchor
from nas.predictors.interleaving import undisturbed
from nas.predictors.latency_table import LatencyTable
from nas.predictors.machine import interruptions, machine_state, pinned
from nas.predictors.node_timing import Refuse, unlooked
from nas.predictors.samples import Record, unrecorded
from nas.predictors.threads import threads
from nas.predictors.timings import FELT, Array, Visit
from nas.predictors.tracing import first_cause
from nas.predictors.visits import Series
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone, build
from nas.search_spaces.graph import IMAGE, Node, nodes

VISITS, WARM, PASSES = 3, 1, 4
"""Visits to each network, and in each the passes that do not count, in the first visit one more, and those that do."""


@dataclass(slots=True)
class _Placed:
    """A network whose nodes are timed in their place: the seconds of each in every pass, (passes, nodes), the anchor's around
    each pass, and what there is to record: kind, key and visit."""

    nodes: list[Node]
    model: Backbone
    image: Tensor
    passes: list[list[float]] = field(default_factory=list)
    around: list[float] = field(default_factory=list)
    raw: list[tuple[str, str, Visit]] = field(default_factory=list)

    @classmethod
    def of(cls, architecture: Architecture, table: LatencyTable) -> Self:
        """The network of an architecture, with an image."""
        target = table.target
        model = build(architecture, table.num_classes, table.in_channels).eval().to(dtype=target.dtype)
        found = nodes(architecture, None, table.in_channels, table.num_classes)
        image = torch.randn(target.batch, table.in_channels, architecture.resolution, architecture.resolution)
        return cls(list(found), model, image.to(target.dtype))

    def visit(self, beside: Series, number: int, cpus: tuple[int, ...]) -> None:
        """Some passes of the `number`-th network of a census, the anchor before and after each.

        Raises MeasurementError where the network does not run.
        """
        for _ in range(WARM + (not self.passes)):
            self._pass()
        at, before, state = time.time(), interruptions(), machine_state(cpus)
        passes, anchors = [], [beside.again()]
        for _ in range(PASSES):
            passes.append(self._pass())
            anchors.append(beside.again())
        after = interruptions()
        times = None if before is None or after is None else after - before
        around = around_runs(anchors)
        self.raw.append(("anchor", "", Visit(at, number, tuple(anchors), times, state)))
        for node, *seconds in zip(self.nodes, *passes, strict=True):
            self.raw.append(("node", node.key, Visit(at, number, tuple(seconds), times, state, beside=tuple(around))))
        self.passes += passes
        self.around += around.tolist()

    def seconds(self, reference: float | None, *, elsewhere: bool = False) -> list[float]:
        """Each node's seconds, the median of its passes, at the speed at which the anchor takes `reference`, or its usual time
        here. Of the moods of this machine nodes feel FELT; of what it is slower than another (`elsewhere`), the whole group's
        mood included, all."""
        around = np.array(self.around)
        usual = float(np.median(around))
        factors = (around / usual) ** FELT * (usual / (reference or usual)) ** (1.0 if elsewhere else FELT)
        return [float(item) for item in np.median(np.array(self.passes) / factors[:, None], axis=0)]

    def _pass(self) -> list[float]:
        """The seconds of every node in the order of the plan."""
        clock, seconds = time.perf_counter, []
        with torch.inference_mode():
            values = {IMAGE: self.image}
            for name, inputs in self.model.plan:
                start = clock()
                try:
                    self.model.run_node(name, inputs, values)
                except Exception as error:
                    raise MeasurementError(f"node {name} does not run in place: {first_cause(error)}") from error
                seconds.append(clock() - start)
        return seconds


def time_in_place(
    group: Sequence[Architecture], table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> list[tuple[Node, float]]:
    """Every node of some networks, which take turns, with its seconds, normalised by the anchor beside them.

    `record` is given the raw seconds of every node's passes, and `refuse` the nodes of a network that runs neither beside the
    others, which memory may be short for, nor alone: it is left out.
    """
    numbered = dict(enumerate(group, table.census))
    found, failed = _take_turns(numbered, table, record)
    for number, why in failed.items():
        alone, still = ({}, {number: why}) if len(group) == 1 else _take_turns({number: numbered[number]}, table, record)
        found |= alone
        for reason in still.values():
            refuse(nodes(numbered[number], None, table.in_channels, table.num_classes), MeasurementError(reason))
    return [pair for taken in found.values() for pair in taken]


def time_each_in_place(
    group: Sequence[Architecture], table: LatencyTable, record: Record = unrecorded, first: int = 0
) -> list[list[tuple[Node, float]]]:
    """The nodes of each of some networks, which take turns, with their seconds; none of a network that does not run beside the
    others. Among the raw samples their numbers begin with `first`."""
    found, _ = _take_turns(dict(enumerate(group, first)), table, record)
    return [found.get(first + place, []) for place in range(len(group))]


def _take_turns(
    numbered: Mapping[int, Architecture], table: LatencyTable, record: Record
) -> tuple[dict[int, list[tuple[Node, float]]], dict[int, str]]:
    """By its number the nodes of a network with their seconds, or why it does not run; the words alone, for an error would
    keep all of them in memory."""
    target, failed = table.target, dict[int, str]()
    placed = {number: _Placed.of(architecture, table) for number, architecture in numbered.items()}
    with threads(target.threads), pinned(target.threads) as cpus, undisturbed():
        beside = Series(anchor(target))
        for visit in range(VISITS):
            for number, one in list(placed.items())[:: -1 if visit % 2 else 1]:
                try:
                    one.visit(beside, number, cpus)
                except MeasurementError as error:
                    failed[number] = str(error)
                    del placed[number]
    for one in placed.values():
        for kind, key, seen in one.raw:
            record(kind, key, seen)
    seconds = {number: one.seconds(table.anchor, elsewhere=bool(target.place)) for number, one in placed.items()}
    return {number: list(zip(one.nodes, seconds[number], strict=True)) for number, one in placed.items()}, failed


def around_runs(anchors: Sequence[float]) -> Array:
    """The anchor's seconds around each of n runs, (n,), from those before the first and after each, (n + 1,)."""
    taken = np.asarray(anchors, float)
    return (taken[:-1] + taken[1:]) / 2
