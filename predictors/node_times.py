"""Node times: what was measured and what a Gaussian process over all measured nodes expects, weighted by their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.latency_table import LatencyTable, NodeTime
from nas.predictors.regression import GaussianProcess, one_thread
from nas.predictors.timings import Array
from nas.search_spaces.graph import Node

DEFAULT_NOISE = 0.05
LEARNED = 700
UNSEEN = 0.5  # relative error added for an operator that was never measured


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a node, their relative standard error, and whether the node itself was measured."""

    seconds: float
    error: float
    measured: bool


@dataclass(frozen=True)
class NodeFeatures:
    """Numbers that describe a node's work: operator, norm, sizes, settings. Columns follow from the known nodes.

    MACs are left out on purpose: within an operator they are a product of sizes and settings, whose logarithms are here,
    and tracing a node for them takes longer than timing it.
    """

    labels: tuple[str, ...]
    settings: tuple[str, ...]

    @classmethod
    def of(cls, known: Iterable[Node]) -> Self:
        """The columns that tell the known nodes apart."""
        items = list(known)
        labels = {label for node in items for label in _labels(node)}
        settings = {name for node in items for name, value in node.settings if not isinstance(value, str)}
        return cls(tuple(sorted(labels)), tuple(sorted(settings)))

    def __call__(self, items: Iterable[Node]) -> Array:
        """One row a node."""
        return np.array([self._row(node) for node in items], float)

    def _row(self, node: Node) -> list[float]:
        labels, settings = _labels(node), dict(node.settings)
        side, width, out_width = math.log(node.in_shape[0]), math.log(node.in_shape[2]), math.log(node.out_shape[2])
        row = [side, width, out_width, 2 * side + width, 2 * side + width + out_width]
        row += [math.log1p(float(settings[name])) if name in settings else 0.0 for name in self.settings]
        for label in self.labels:
            present = float(label in labels)
            row += [present, present * (side - 2), present * (width - 4)]
        return row


def operator_label(node: Node) -> str:
    """Kind and operator: what a node does."""
    return f"{node.kind}:{node.operator}"


def _labels(node: Node) -> set[str]:
    texts = {f"{operator_label(node)}:{name}={value}" for name, value in node.settings if isinstance(value, str)}
    return texts | {operator_label(node), f"norm:{node.norm}"}


@dataclass
class NodeTimes:
    """Estimates by node key, remembered; a function of the table's nodes alone.

    `noise` is the standard deviation of the logarithm of one sample around its node's mean.
    """

    table: LatencyTable
    seen: frozenset[str]
    noise: float
    features: NodeFeatures
    process: GaussianProcess
    estimates: dict[str, Estimate] = field(default_factory=dict)

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """Learn from the table's nodes. Raises MeasurementError where it has fewer than two."""
        if len(table.nodes) < 2:
            raise MeasurementError(f"the latency table of {table.target} has {len(table.nodes)} node times; profile for longer")
        items = [table.nodes[key] for key in sorted(table.nodes)]
        features = NodeFeatures.of(item.node for item in items)
        learned = _spread_out(items)
        x = features(item.node for item in learned)
        process = GaussianProcess.fit(x, np.array([_log_mean(item) for item in learned]))
        return cls(table, frozenset(operator_label(item.node) for item in items), sample_noise(items), features, process)

    def __call__(self, items: Sequence[Node], keys: Sequence[str]) -> list[Estimate]:
        """The estimates of nodes with these keys."""
        missing = {key: node for key, node in zip(keys, items, strict=True) if key not in self.estimates}
        if missing:
            x = self.features(missing.values())
            with one_thread():
                means, errors = self.process.predict(x)
            for (key, node), mean, error in zip(missing.items(), means, errors, strict=True):
                self.estimates[key] = self._weigh(key, node, float(mean), float(error))
        return [self.estimates[key] for key in keys]

    def _weigh(self, key: str, node: Node, mean: float, error: float) -> Estimate:
        """The mean of the process and of the samples, weighted by their inverse variances."""
        known = self.table.nodes.get(key)
        if known is None:
            return Estimate(math.exp(mean), math.hypot(error, 0.0 if operator_label(node) in self.seen else UNSEEN), False)
        variance = self.noise**2 / len(known.samples)
        weight = error**2 / (error**2 + variance)
        middle = weight * _log_mean(known) + (1 - weight) * mean
        return Estimate(math.exp(middle), math.sqrt(weight * variance), True)


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
