"""Summaries: what corrections and the choice of networks see of an architecture, summed over its graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.predictors.corrections import EDGES, NORMS, OPERATORS, SIZE, WORK, Summary
from nas.predictors.graph_sums import GraphSums, Sums
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_features import operator_label
from nas.predictors.node_times import Estimate, NodeTimes, registered
from nas.predictors.surrogates.layout import Layout
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind, operator

_SECONDS, _SQUARED, _STRANGE, _MEASURED, _COUNT, _REFUSED, _GROUP, _NUMBERS, _PRODUCTS = range(9)
_PLAIN = 9


class Summaries:
    """Summaries of architectures by the node times of a table; one is remembered by its steps (see `GraphSums`)."""

    def __init__(self, table: LatencyTable, times: NodeTimes) -> None:
        self.times = times
        known = [item.node for item in table.nodes.values()]
        self._labels = {label: number for number, label in enumerate(sorted(times.seen))}
        self._norms = {norm: number for number, norm in enumerate(sorted({node.norm for node in known if node.norm}))}
        self._groups = {group: number for number, group in enumerate(sorted({group_of(node) for node in known}))}
        self._layout = Layout(
            (
                (OPERATORS, len(self._labels)),
                (NORMS, len(self._norms)),
                (EDGES, (len(self._groups) + 1) ** 2),
                (SIZE, 3),
                (WORK, 3),
            )
        )
        self._outputs = (table.in_channels, table.num_classes)
        self._blind: dict[str, Array] = {}
        self._sums = GraphSums(lambda items: self._rows(items, times(items)), *self._outputs)

    def __call__(self, architectures: Sequence[Architecture]) -> tuple[Summary, Array]:
        """Architectures as corrections see them, and how many of their nodes run an operator without a time, (n,)."""
        return self._summary(self._sums(architectures))

    def alone(self, architectures: Sequence[Architecture]) -> Array:
        """The sums of node times (seconds) of architectures as they are in a network of the usual size, (n,)."""
        return np.asarray(self._sums(architectures).values[:, _SECONDS])

    def left_out(self, architectures: Sequence[Architecture]) -> Summary:
        """Architectures as they would be seen if their nodes had not been timed in them: see `NodeTimes.left_out`."""
        new = [architecture for architecture in architectures if architecture.digest not in self._blind]
        walked = [nodes(architecture, None, *self._outputs) for architecture in new]
        for architecture, items, taken in zip(new, walked, self.times.left_out(walked) if new else [], strict=True):
            self._blind[architecture.digest] = self._rows(items, taken)
        rows = [self._blind[architecture.digest] for architecture in architectures]
        ends = np.cumsum([0, *map(len, rows)])
        sums = np.stack([some.sum(0) for some in rows])
        return self._summary(Sums(sums, np.concatenate(rows), np.arange(ends[-1]), ends))[0]

    def _summary(self, found: Sums) -> tuple[Summary, Array]:
        values = found.values
        alone, grown = values[:, _SECONDS], self.times.growth(values[:, _COUNT])
        seconds = alone * grown
        error = np.hypot(np.sqrt(values[:, _SQUARED]), values[:, _STRANGE]) / alone
        size = np.stack([np.log(seconds), np.log(values[:, _COUNT]), values[:, _MEASURED] / alone], 1)
        edges = passed(found.column(_GROUP).astype(np.int64), found.column(_NUMBERS), found.ends, len(self._groups) + 1)
        work = values[:, [_NUMBERS, _PRODUCTS, _COUNT]]
        columns = np.concatenate([values[:, _PLAIN:] * grown[:, None], edges, size, work], 1)
        return Summary(seconds, error, columns, self._layout), values[:, _REFUSED]

    def unknown(self, node: Node) -> bool:
        """Whether a node runs an operator that no measured node has."""
        name = registered(node)
        return bool(name) and name not in self.times.operators

    def _rows(self, items: Sequence[Node], estimates: Sequence[Estimate]) -> Array:
        """What a summary sums up of each node: see the names of the columns; then seconds by operator and by norm."""
        rows = np.zeros((len(items), _PLAIN + len(self._labels) + len(self._norms)))
        for row, node, item in zip(rows, items, estimates, strict=True):
            time = item.seconds
            row[_SECONDS], row[_SQUARED], row[_STRANGE] = time, (time * item.error) ** 2, time * item.strange
            row[_MEASURED], row[_COUNT], row[_REFUSED] = time * item.measured, 1.0, self.unknown(node)
            row[_GROUP] = self._groups.get(group_of(node), len(self._groups))
            row[_NUMBERS] = math.prod(node.in_shape)
            row[_PRODUCTS] = math.prod(node.in_shape) * node.out_shape[2]
            label, norm = self._labels.get(operator_label(node)), self._norms.get(node.norm)
            if label is not None:
                row[_PLAIN + label] = time
            if norm is not None:
                row[_PLAIN + len(self._labels) + norm] = time
        return rows


def group_of(node: Node) -> str:
    """What a node is to its neighbours: the group of its operator where it is a token mixer, else its kind."""
    return str(operator(Kind.TOKEN_MIXER, node.operator).group) if node.kind == Kind.TOKEN_MIXER else str(node.kind)


def passed(group: NDArray[np.int64], amount: Array, ends: NDArray[np.int64], groups: int) -> Array:
    """The amounts that pass from group to group, (n, groups * groups), of n chains of nodes that end at `ends[1:]`.

    `group` and `amount` are those of all nodes, one chain behind the other; a node takes its amount from the one before it.
    """
    pair = group[:-1] * groups + group[1:]
    chain = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    inside = chain[1:] == chain[:-1]
    place = chain[1:][inside] * groups**2 + pair[inside]
    found = np.bincount(place, amount[1:][inside], (len(ends) - 1) * groups**2)
    return np.asarray(found.reshape(len(ends) - 1, groups**2))
