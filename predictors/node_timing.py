"""Where nodes are timed: on a CPU in their place (`nas.predictors.in_place_timing`), on a GPU by repetition, as here.

A node that runs alone in a loop finds its own code and data in every cache: on a CPU in eager mode the nodes of a small
network, timed so, sum to only 60 to 80 % of the network's time. Timed in their place they sum to within a few per cent.
In place means eager mode, also for other CPU runtimes: exporting or compiling every node would take hours, and the
correction learns from whole networks how much faster the target runs each operator. The same holds for a target at another
place, where only whole networks are measured: nodes are timed on this machine, and scaled by the ratio of the anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.device import device
from nas.predictors.interleaving import Effort
from nas.predictors.latency_table import LatencyTable
from nas.predictors.measure import Run, checked, measure_runs
from nas.predictors.samples import Record, unrecorded
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, Visit
from nas.predictors.visits import RunFailedError
from nas.search_spaces import graph
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node
from nas.search_spaces.registry import Kind

Refuse = Callable[[Sequence[Node], MeasurementError], None]
"""Is given nodes that could not be timed, and why."""
SHORT, LONG = 1, 5
REPEATED = Effort(seconds=0.05, rounds=2, precision=0.02)


def in_place(target: Target) -> bool:
    """Whether nodes are timed inside networks on this target: a GPU would have to be stopped after every node."""
    return bool(target.place) or device(target.device).torch_device == "cpu"


def unlooked(group: Sequence[Node], error: MeasurementError) -> None:
    """Let nodes that could not be timed go."""


def time_repeated(
    group: Sequence[Node], table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> list[tuple[Node, float]]:
    """Nodes with their seconds, each from a short and a long repetition, all interleaved.

    `record` is given the raw seconds of the repetitions, named `KEY x1` and `KEY x5`, and `refuse` the nodes that do not run:
    they are left out. Raises RunFailedError where the anchor does not run either.
    """
    pairs: list[tuple[Node, list[Run]]] = []
    for node in group:
        example = node_example(node, table.target.batch)
        try:
            pairs.append((node, [checked(Repeated(node, copies), example, table.target) for copies in (SHORT, LONG)]))
        except MeasurementError as error:
            refuse([node], error)
    while pairs:
        try:
            return _measured(pairs, table, record)
        except RunFailedError as error:
            if error.position is None:
                raise
            refuse([pairs.pop(error.position // 2)[0]], error)
    return []


def _measured(pairs: Sequence[tuple[Node, list[Run]]], table: LatencyTable, record: Record) -> list[tuple[Node, float]]:
    """Nodes with their seconds, from their prepared repetitions."""
    runs = [run for _, both in pairs for run in both]
    sides = [node.in_shape[0] for node, _ in pairs for _ in (SHORT, LONG)]
    names = [f"{node.key} x{copies}" for node, _ in pairs for copies in (SHORT, LONG)]

    def watch(position: int | None, visits: Sequence[Visit]) -> None:
        for visit in visits:
            record("anchor" if position is None else "node", "" if position is None else names[position], visit)

    found = measure_runs(runs, table.target, sides, effort=REPEATED, seed=table.seed, speed=table.speed, watch=watch)
    return [(node, difference(*found[2 * i : 2 * i + 2])) for i, (node, _) in enumerate(pairs)]


def difference(short: Measurement, long: Measurement) -> float:
    """The seconds that one more copy takes.

    Noise can bring the difference of a very cheap node to zero: it counts as at least a tenth of its share of the long run.
    """
    return max((long.median - short.median) / (LONG - SHORT), 0.1 * long.median / LONG)


class Repeated(nn.Module):
    """`copies` of one node with weights of their own: a chain where its output fits its input, else side by side."""

    def __init__(self, node: Node, copies: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(module_of(node) for _ in range(copies))
        self.kind, self.chained = node.kind, node.in_shape == node.out_shape and node.kind != graph.BRANCH
        self.first, self.side = node.in_shape[2] // 16 * 8, node.side

    def forward(self, x: Tensor) -> list[Tensor]:
        """The last output of the chain, or what every copy returns; all maps are kept meanwhile, as a backbone keeps them."""
        out: list[Tensor] = []
        for module in self.copies:
            parts = [x[..., : self.first], x[..., self.first :]] if self.kind == graph.CONCAT else []
            found = module(x, *parts, *(x.new_ones(x.shape[0], *shape) for shape in self.side))
            out.append(found[0] if isinstance(found, tuple) else found)
            x = out[-1] if self.chained else x
        return out[-1:] if self.chained else out


def node_example(node: Node, batch: int) -> Tensor:
    """Noise of the shape that the node reads; a branch reads the whole map, of which we know the part up to its end."""
    height, width, channels = node.in_shape
    generator = torch.Generator().manual_seed(0)
    if node.kind == Kind.STEM:
        return torch.randn(batch, channels, height, width, generator=generator)
    if node.kind == graph.BRANCH and node.channels is not None:
        channels = node.channels[1]
    return torch.randn(batch, height, width, channels, generator=generator)
