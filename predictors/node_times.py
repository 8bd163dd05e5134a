"""Node times: what was measured, and what is expected by the work of a node, weighted by their errors.

log (t + offset) = log(work priced by a roofline + offset) + a Gaussian process over the measured nodes. Prices are shared by
all operators, so that what is known of some carries over to others and to other sizes; the process tells how an operator
departs from them. What a node's neighbours change in its time, caches, fusion and the clock, is some microseconds whatever it
takes itself: with a typical time as offset all errors are of one size, and those count that a network's sum feels.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.growth import Growth
from nas.predictors.latency_table import LatencyTable, NodeTime
from nas.predictors.node_features import LABELS, LENGTHS, SETTINGS, SHARES, SIZES, NodeFeatures, operator_label
from nas.predictors.node_process import node_process
from nas.predictors.regression import one_thread
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.process import Process
from nas.predictors.timings import Array
from nas.search_spaces.graph import BRANCH, Node
from nas.search_spaces.registry import Kind

DEFAULT_NOISE = 0.05
LEARNED = 3000
UNSEEN = 0.5
"""Relative error added for a kind of node that was never measured."""
OUTSIDE = 1.0
"""Relative error added for each factor of e by which a side or a width lies outside the measured ones."""
UNUSUAL = 1.5
"""How many times the usual deviation of the process a node's may be before it counts as unlike all that was measured."""
FLOOR = 0.02
"""No node takes less than this share of its time with the offset."""
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
    """Estimates of nodes; a function of the table's nodes, and of how much longer networks took that brought them.

    `table` holds them as they are in a network of usual size, `growth` tells how much longer they take in a larger one.
    `seen` are the labels that were measured, `operators` the registered operators among them. `offset` (seconds) is added to
    times before their logarithms are taken. `noise` is the standard deviation of the logarithm of one sample around its node's
    mean, `usual` the process's where it knows the nodes, `lengths` the smallest and largest logarithms of sides and widths that
    were measured, `learned` the place of a node in the process by its key.
    """

    table: LatencyTable
    seen: frozenset[str]
    operators: frozenset[str]
    offset: float
    noise: float
    usual: float
    features: NodeFeatures
    process: Process
    lengths: tuple[Array, Array]
    learned: dict[str, int]
    growth: Growth

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """Learn from the table's nodes. Raises MeasurementError where it has fewer than two."""
        if len(table.nodes) < 2:
            raise MeasurementError(f"the latency table of {table.target} has {len(table.nodes)} node times; profile for longer")
        growth = Growth.fit(table)
        table = growth.without(table)
        items = [table.nodes[key] for key in sorted(table.nodes)]
        seconds = np.exp([_log_mean(item, 0.0) for item in items])
        offset = float(np.median(seconds))
        rows = _chosen(items, seconds)
        learned = [items[row] for row in rows]
        with one_thread():
            features = NodeFeatures.of([item.node for item in items], seconds)
            everything, priced = features([item.node for item in items])
            x, expected = everything[rows], priced[rows]
            y = np.array([_log_mean(item, offset) for item in learned]) - np.log(np.exp(expected) + offset)
            process = node_process(KERNELS, features.layout, x, y)
            usual = float(np.median(process.predict(features.layout, x, np.ones(len(y)))[1]))
        seen = frozenset(operator_label(item.node) for item in items)
        lengths = everything[:, :LENGTHS].min(0), everything[:, :LENGTHS].max(0)
        noise, places = sample_noise(items, offset), {item.node.key: place for place, item in enumerate(learned)}
        return cls(table, seen, operators_of(items), offset, noise, usual, features, process, lengths, places, growth)

    def __call__(self, items: Sequence[Node]) -> list[Estimate]:
        """The estimates of nodes."""
        return self._estimates(items, {})

    def left_out(self, networks: Sequence[Sequence[Node]]) -> list[list[Estimate]]:
        """The estimates of the nodes of each network as if it had not been timed: without those that were timed no more often
        than it has them. A network of which some nodes were never timed did not bring any: it is estimated as it is.

        Of these the process tells what all others say (Rasmussen and Williams 2006, equations 5.10 to 5.12, for a block).
        """
        everything = [node for items in networks for node in items]
        starts = np.cumsum([0, *map(len, networks)]).tolist()
        blind: dict[int, tuple[float, float] | None] = {}
        with one_thread():
            for start, items in zip(starts[:-1], networks, strict=True):
                own = self._blind(items)
                blind |= {start + place: own[node.key] for place, node in enumerate(items) if node.key in own}
        found = self._estimates(everything, blind)
        return [found[start:end] for start, end in itertools.pairwise(starts)]

    def _estimates(self, items: Sequence[Node], blind: Mapping[int, tuple[float, float] | None]) -> list[Estimate]:
        """The estimates of nodes, at some places `blind` to their samples: it has what the process says without them, None
        where it did not learn from them."""
        x, expected = self.features(items)
        with one_thread():
            means, errors = self.process.predict(self.features.layout, x, np.ones(len(x)))
        for place, told in blind.items():
            if told is not None:
                means[place], errors[place] = told
        means = np.log(np.exp(expected) + self.offset) + means
        low, high = self.lengths
        outside = (np.maximum(low - x[:, :LENGTHS], 0) + np.maximum(x[:, :LENGTHS] - high, 0)).sum(1)
        found = zip(items, means, errors, outside, strict=True)
        return [
            self._weigh(node, float(mean), float(error), float(far), place in blind)
            for place, (node, mean, error, far) in enumerate(found)
        ]

    def _blind(self, items: Sequence[Node]) -> dict[str, tuple[float, float] | None]:
        """By key the mean and deviation of the process at those nodes of a network that it alone brought, from all others; None
        where the process did not learn from them."""
        times, samples = Counter(node.key for node in items), self.table.nodes
        if not times.keys() <= samples.keys():
            return {}
        own = [key for key, number in times.items() if len(samples[key].samples) <= number]
        learned = [key for key in own if key in self.learned]
        if not learned:
            return dict.fromkeys(own)
        process, rows = self.process, np.array([self.learned[key] for key in learned])
        block = np.asarray(np.linalg.inv(self._precision[np.ix_(rows, rows)]), np.float64)
        value = process.covariance[rows] @ process.alpha - block @ process.alpha[rows]
        means, deviations = process.centre + process.unit * value, process.unit * np.sqrt(np.diag(block))
        return dict.fromkeys(own) | dict(zip(learned, zip(means.tolist(), deviations.tolist(), strict=True), strict=True))

    @cached_property
    def _precision(self) -> Array:
        """The inverse of the covariance of the process's rows."""
        return np.asarray(np.linalg.inv(self.process.covariance), np.float64)

    def _weigh(self, node: Node, mean: float, error: float, outside: float, blind: bool) -> Estimate:
        """The mean of the process and of the samples, weighted by their inverse variances; only the former where `blind`.

        `outside` is by how many factors of e the node's sides and widths exceed the measured ones.
        """
        known = None if blind else self.table.nodes.get(node.key)
        if known is None:
            seconds, share = self._seconds(mean)
            strange = max(0.0, error - UNUSUAL * self.usual) / share + (0.0 if operator_label(node) in self.seen else UNSEEN)
            return Estimate(seconds, error / share, False, strange + OUTSIDE * outside)
        variance = self.noise**2 / len(known.samples)
        weight = error**2 / (error**2 + variance)
        seconds, share = self._seconds(weight * _log_mean(known, self.offset) + (1 - weight) * mean)
        return Estimate(seconds, math.sqrt(weight * variance) / share, True)

    def _seconds(self, mean: float) -> tuple[float, float]:
        """The seconds of a node by a logarithm with the offset, and their share of what the logarithm is of."""
        whole = math.exp(mean)
        seconds = max(whole - self.offset, FLOOR * whole)
        return seconds, seconds / whole


def operators_of(items: Iterable[NodeTime]) -> frozenset[str]:
    """The registered operators that were measured."""
    return frozenset(registered(item.node) for item in items)


def sample_noise(items: Iterable[NodeTime], offset: float) -> float:
    """The pooled standard deviation of the logarithms of samples with the offset around their node's mean, from nodes with two
    samples or more."""
    groups = [np.log(np.array(item.samples) + offset) for item in items if len(item.samples) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 5:
        return DEFAULT_NOISE
    return max(math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom), 1e-3)


def _log_mean(item: NodeTime, offset: float) -> float:
    """The mean of the logarithms of samples with the offset, or their median where there are enough for it to be the better
    one."""
    logs = np.log(np.array(item.samples) + offset)
    return float(np.median(logs) if len(logs) > 4 else logs.mean())


def _chosen(items: Sequence[NodeTime], seconds: Array) -> list[int]:
    """The places of at most LEARNED nodes: half of them those that take longest, which latencies are mostly made of and random
    members seldom bring; one of each kind and operator that these lack; and others evenly through the items."""
    if len(items) <= LEARNED:
        return list(range(len(items)))
    found = set(np.argsort(-seconds, kind="stable")[: LEARNED // 2].tolist())
    last = {operator_label(item.node): place for place, item in enumerate(items)}
    brought = {operator_label(items[place].node) for place in found}
    found |= {place for label, place in last.items() if label not in brought}
    others = [place for place in range(len(items)) if place not in found]
    number = max(LEARNED - len(found), 0)
    return sorted(found | {others[index * len(others) // number] for index in range(number)})
