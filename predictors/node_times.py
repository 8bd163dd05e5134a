"""Node times: what was measured, and what is expected by the work of a node, weighted by their errors.

log t = log(work priced by a roofline) + a Gaussian process over the measured nodes. Prices are shared by all operators, so
that what is known of some carries over to others and to other sizes; the process tells how an operator departs from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.latency_table import LatencyTable, NodeTime
from nas.predictors.node_features import LABELS, LENGTHS, SETTINGS, SHARES, SIZES, NodeFeatures, operator_label
from nas.predictors.regression import one_thread
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.process import Process
from nas.predictors.timings import Array
from nas.search_spaces.graph import BRANCH, Node
from nas.search_spaces.registry import Kind

DEFAULT_NOISE = 0.05
LEARNED = 2000
UNSEEN = 0.5
"""Relative error added for a kind of node that was never measured."""
OUTSIDE = 1.0
"""Relative error added for each factor of e by which a side or a width lies outside the measured ones."""
UNUSUAL = 1.5
"""How many times the usual deviation of the process a node's may be before it counts as unlike all that was measured."""
_ALL = (SIZES, SETTINGS, LABELS)
KERNELS = (
    Kernel("linear", (*_ALL, SHARES)),
    Kernel("rough", _ALL),
    Kernel("rough", (SIZES, SETTINGS, SHARES)),
    Kernel("rough", (SHARES,)),
    Kernel("rough", (LABELS, SETTINGS)),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a node, their relative standard error, and whether the node itself was measured.

    `strange` is the part of the error by which the node is unlike all that were measured; nodes of one network that are
    strange are so for the same reason, and their errors have one sign.
    """

    seconds: float
    error: float
    measured: bool
    strange: float = 0.0


def registered(node: Node) -> str:
    """The registered operator that a node runs, alone or on a branch, as `kind:name`; "" for what no registry knows."""
    kind = Kind.TOKEN_MIXER if node.kind == BRANCH else node.kind
    return f"{kind}:{node.operator}" if kind in set(Kind) else ""


@dataclass
class NodeTimes:
    """Estimates of nodes; a function of the table's nodes alone.

    `seen` are the labels that were measured, `operators` the registered operators among them. `noise` is the standard
    deviation of the logarithm of one sample around its node's mean, `usual` the process's where it knows the nodes, `lengths`
    the smallest and largest logarithms of sides and widths that were measured.
    """

    table: LatencyTable
    seen: frozenset[str]
    operators: frozenset[str]
    noise: float
    usual: float
    features: NodeFeatures
    process: Process
    lengths: tuple[Array, Array]

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """Learn from the table's nodes. Raises MeasurementError where it has fewer than two."""
        if len(table.nodes) < 2:
            raise MeasurementError(f"the latency table of {table.target} has {len(table.nodes)} node times; profile for longer")
        items = [table.nodes[key] for key in sorted(table.nodes)]
        seconds = np.exp([_log_mean(item) for item in items])
        learned = _spread_out(items)
        with one_thread():
            features = NodeFeatures.of([item.node for item in items], seconds)
            x, expected = features([item.node for item in learned])
            y = np.array([_log_mean(item) for item in learned]) - expected
            process = Process.fit(KERNELS, features.layout, x, y, np.ones(len(y)))
            usual = float(np.median(process.predict(features.layout, x, np.ones(len(y)))[1]))
        seen = frozenset(operator_label(item.node) for item in items)
        lengths = x[:, :LENGTHS].min(0), x[:, :LENGTHS].max(0)
        return cls(table, seen, operators_of(items), sample_noise(items), usual, features, process, lengths)

    def __call__(self, items: Sequence[Node]) -> list[Estimate]:
        """The estimates of nodes."""
        x, expected = self.features(items)
        with one_thread():
            means, errors = self.process.predict(self.features.layout, x, np.ones(len(x)))
        means = expected + means
        low, high = self.lengths
        outside = (np.maximum(low - x[:, :LENGTHS], 0) + np.maximum(x[:, :LENGTHS] - high, 0)).sum(1)
        found = zip(items, means, errors, outside, strict=True)
        return [self._weigh(node, float(mean), float(error), float(far)) for node, mean, error, far in found]

    def _weigh(self, node: Node, mean: float, error: float, outside: float) -> Estimate:
        """The mean of the process and of the samples, weighted by their inverse variances.

        `outside` is by how many factors of e the node's sides and widths exceed the measured ones.
        """
        known = self.table.nodes.get(node.key)
        if known is None:
            strange = max(0.0, error - UNUSUAL * self.usual) + (0.0 if operator_label(node) in self.seen else UNSEEN)
            return Estimate(math.exp(mean), error, False, strange + OUTSIDE * outside)
        variance = self.noise**2 / len(known.samples)
        weight = error**2 / (error**2 + variance)
        middle = weight * _log_mean(known) + (1 - weight) * mean
        return Estimate(math.exp(middle), math.sqrt(weight * variance), True)


def operators_of(items: Iterable[NodeTime]) -> frozenset[str]:
    """The registered operators that were measured."""
    return frozenset(registered(item.node) for item in items)


def sample_noise(items: Iterable[NodeTime]) -> float:
    """The pooled standard deviation of log samples around their node's mean, from nodes with two samples or more."""
    groups = [np.log(item.samples) for item in items if len(item.samples) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 5:
        return DEFAULT_NOISE
    return max(math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom), 1e-3)


def _log_mean(item: NodeTime) -> float:
    """The mean of the log samples, or their median where there are enough for it to be the better one."""
    logs = np.log(item.samples)
    return float(np.median(logs) if len(logs) > 4 else logs.mean())


def _spread_out(items: Sequence[NodeTime]) -> Sequence[NodeTime]:
    """At most LEARNED of the nodes, evenly through their sorted keys, so that all operators and sizes stay in."""
    if len(items) <= LEARNED:
        return items
    return [items[index * len(items) // LEARNED] for index in range(LEARNED)]
