"""A new target from tables of other targets and a few networks: node times are inherited, a small correction is fitted.

Other targets price the same nodes differently, yet a new one lies between them more often than not: its networks are a
non-negative mixture of their sums of node times. The mixture prices every node that any of them knows, so that what comes out
is an ordinary latency table, which the predictor corrects and calibrates as always.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.errors import FileError, MeasurementError
from nas.predictors.acquisition import View, view_of
from nas.predictors.latency_predictor import MIN_NETWORKS
from nas.predictors.latency_table import TRAIN, LatencyTable, NodeTime
from nas.predictors.node_times import NodeTimes
from nas.predictors.summaries import Summaries
from nas.predictors.surrogates.table import Prices
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node


class Ancestors:
    """Tables of other targets that a new one inherits node times from."""

    def __init__(self, tables: Sequence[LatencyTable]) -> None:
        self.tables = tuple(tables)
        self._times = [NodeTimes.fit(table) for table in tables]
        self._summaries = [Summaries(table, times) for table, times in zip(tables, self._times, strict=True)]

    def require(self, table: LatencyTable) -> None:
        """Raise FileError where a table is of other networks than the new one, or this one was timed node by node itself."""
        if table.nodes and not table.ancestry:
            raise FileError(
                f"the table of {table.target} has node times of its own; leave the other tables out, or name another"
            )
        for known in self.tables:
            if (known.in_channels, known.num_classes) != (table.in_channels, table.num_classes):
                raise FileError(
                    f"the table of {known.target} is of {known.in_channels} channels and {known.num_classes} classes, the new "
                    f"one of {table.in_channels} and {table.num_classes}; give tables of the same networks"
                )

    def sums(self, architectures: Sequence[Architecture]) -> Array:
        """The sum of node times (seconds) of each architecture on each known target, (n, targets), as they are handed on:
        without what known networks of many nodes take beyond it."""
        return np.stack([summaries.alone(architectures) for summaries in self._summaries], 1)

    def view(self) -> View:
        """What tells architectures apart: the logarithms of their sums, and shares of operators on the first target."""
        first = view_of(self.tables[0])
        return lambda architectures: np.concatenate([np.log(self.sums(architectures)), first(architectures)], 1)

    def bequeath(self, table: LatencyTable) -> None:
        """Give a table with training networks the node times that explain them best. Raises MeasurementError for too few."""
        known = list(table.of_role(TRAIN))
        if len(known) < MIN_NETWORKS:
            raise MeasurementError(
                f"the latency table of {table.target} has {len(known)} training networks, and inheriting node times needs "
                f"{MIN_NETWORKS}; measure more"
            )
        sums = self.sums([item.architecture for item in known])
        latency = table.latency(known)
        weights = mixture(sums, latency)
        table.nodes = {node.key: NodeTime(node, (seconds,)) for node, seconds in self._priced(weights)}
        table.ancestry = [str(item.target) for item in self.tables]

    def _priced(self, weights: Array) -> list[tuple[Node, float]]:
        """Every node that a known target measured, with its seconds on the new one."""
        found = {key: item.node for known in self.tables for key, item in sorted(known.nodes.items())}
        items = list(found.values())
        seconds = np.zeros(len(items))
        for weight, times in zip(weights, self._times, strict=True):
            if weight > 0:
                seconds += weight * np.array([estimate.seconds for estimate in times(items)])
        return list(zip(items, seconds.tolist(), strict=True))


def mixture(sums: Array, latency: Array) -> Array:
    """How much of each known target's sums (n, targets) makes up the latencies (n,), none below zero, not all zero.

    An overhead is allowed for beside them; the predictor fits its own.
    """
    unit = float(np.median(latency))
    weights = Prices.fit(sums / unit, latency / unit, relative=True).prices[1:]
    return weights if weights.any() else np.full(sums.shape[1], float(np.median(latency / sums.mean(1))) / sums.shape[1])
