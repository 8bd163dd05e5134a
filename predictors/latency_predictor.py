"""`LatencyPredictor`: the latency of an architecture from its node times, corrected by whole networks, with an honest interval.

log T = log(sum of node times) + correction(network), where the correction is nothing, a scale and an overhead, or one of
these plus a residual learned by ridge regression or a Gaussian process; cross-validation on the measured networks decides,
and the simplest wins where the others are not better by more than a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError, UsageError
from nas.predictors.assessment import Assessment, assess
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.node_times import NodeTimes, operator_label
from nas.predictors.regression import GaussianProcess, Ridge, one_thread
from nas.predictors.timings import Array, Measurement
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node, nodes

FOLDS = 10
MIN_NETWORKS = 8


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted latencies and their standard deviations in seconds, both (n,)."""

    mean: Array
    std: Array


@dataclass(frozen=True, slots=True)
class Summary:
    """Architectures as the correction sees them: node-time sums (seconds), their relative errors, features (n, columns)."""

    seconds: Array
    error: Array
    features: Array

    def take(self, rows: NDArray[np.intp]) -> Summary:
        """The architectures of some rows."""
        return Summary(self.seconds[rows], self.error[rows], self.features[rows])


Correction = Callable[[Summary], Array]


def _table(known: Summary, latency: Array) -> Correction:
    """No correction: the plain additive table."""
    return lambda new: np.log(new.seconds)


def _linear(known: Summary, latency: Array) -> Correction:
    """A scale and an overhead of the whole network, least squares of the relative error, neither below zero."""
    from scipy.optimize import nnls

    design = np.stack([known.seconds / latency, 1 / latency], axis=1)
    (scale, overhead), _ = nnls(design, np.ones(len(latency)))
    return lambda new: np.log(np.maximum(scale * new.seconds + overhead, 1e-9))


def _ridge(known: Summary, latency: Array) -> Correction:
    base = _linear(known, latency)
    rest = Ridge.fit(known.features, np.log(latency) - base(known))
    return lambda new: base(new) + rest.predict(new.features)


def _process(known: Summary, latency: Array) -> Correction:
    base = _linear(known, latency)
    rest = GaussianProcess.fit(known.features, np.log(latency) - base(known))
    return lambda new: base(new) + rest.predict(new.features)[0]


MODELS: dict[str, Callable[[Summary, Array], Correction]] = {
    "table": _table,
    "table and scale": _linear,
    "table and ridge": _ridge,
    "table and Gaussian process": _process,
}


class LatencyPredictor:
    """Predicts latencies on the target of a table. All state is the table: fitting it again gives the same predictor.

    `model` names the correction that cross-validation chose, `scores` gives each one's cross-validated MAPE.
    """

    def __init__(self, table: LatencyTable, times: NodeTimes) -> None:
        self.table, self.times = table, times
        self._labels = tuple(sorted(times.seen))
        self._index = {label: number for number, label in enumerate(self._labels)}
        self._norms = tuple(sorted({item.node.norm for item in table.nodes.values() if item.node.norm}))
        self._norm_index = {norm: len(self._labels) + number for number, norm in enumerate(self._norms)}
        self._cells: dict[str, tuple[float, float, float, int | None, int | None]] = {}
        self.model = "table"
        self.scores: dict[str, float] = {}
        self._refit()

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """Fit to the table's nodes and the networks of role `train`.

        Raises MeasurementError where the table holds too little: 2 node times, 8 training networks.
        """
        return cls(table, NodeTimes.fit(table))

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Latencies at the architectures' own resolutions, in seconds."""
        summary = self._summary(architectures)
        mean = np.exp(self._correct(summary))
        return Prediction(mean, mean * self._width(summary) * self._deviation)

    def interval(self, architectures: Sequence[Architecture], confidence: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper bounds that hold for a new architecture with about this probability (split-conformal)."""
        summary = self._summary(architectures)
        middle, width = self._correct(summary), self._width(summary)
        reach = conformal_quantile(np.abs(self._residuals), confidence) * width
        return np.exp(middle - reach), np.exp(middle + reach)

    def upper(self, architectures: Sequence[Architecture], confidence: float = 0.95) -> Array:
        """A latency in seconds that a new architecture stays below with about this probability."""
        summary = self._summary(architectures)
        return np.exp(self._correct(summary) + conformal_quantile(self._residuals, confidence) * self._width(summary))

    def assess(self, architectures: Sequence[Architecture], measured: Sequence[float]) -> Assessment:
        """How well measured latencies (seconds) of networks that were not learned from are predicted."""
        low, high = self.interval(architectures, 0.9)
        return assess(self.predict(architectures).mean, np.asarray(measured, float), low, high)

    def correct(self, architectures: Sequence[Architecture], measurements: Sequence[Measurement]) -> None:
        """Learn from more measured networks, which join the table as training networks; node times stay as they are."""
        for architecture, measurement in zip(architectures, measurements, strict=True):
            self.table.add(architecture, measurement, TRAIN)
        self._refit()

    def node_seconds(self, architecture: Architecture) -> dict[str, float]:
        """The node times by node name, scaled so that they sum to the predicted latency."""
        found = self.nodes_of(architecture)
        seconds = [item.seconds for item in self.times(found, [node.key for node in found])]
        scale = float(self.predict([architecture]).mean[0]) / sum(seconds)
        return {node.name: value * scale for node, value in zip(found, seconds, strict=True)}

    def nodes_of(self, architecture: Architecture) -> tuple[Node, ...]:
        """The architecture's nodes, with the table's channels and classes."""
        return nodes(architecture, None, self.table.in_channels, self.table.num_classes)

    def _refit(self) -> None:
        """Choose the correction by cross-validation, and calibrate the interval on the residuals of the chosen one."""
        known = list(self.table.of_role(TRAIN))
        if len(known) < MIN_NETWORKS:
            raise MeasurementError(
                f"the latency table of {self.table.target} has {len(known)} training networks, "
                f"and the predictor needs {MIN_NETWORKS}; profile for longer"
            )
        summary = self._summary([item.architecture for item in known])
        latency = np.array([item.measurement.median for item in known])
        with one_thread():
            residuals = {name: cross_residuals(fit, summary, latency) for name, fit in MODELS.items()}
        self.scores = {name: float(np.mean(np.abs(np.expm1(-rest)))) for name, rest in residuals.items()}
        self.model = simplest(residuals)
        self._correct = MODELS[self.model](summary, latency)
        self._floor = max(float(np.median(np.abs(residuals[self.model]))), 1e-3)
        self._residuals = residuals[self.model] / self._width(summary)
        self._deviation = float(np.sqrt(np.mean(self._residuals**2)))

    def _width(self, summary: Summary) -> Array:
        """The scale of the relative error of each architecture: the typical one, wider where nodes were not measured."""
        return np.hypot(self._floor, summary.error)

    def _summary(self, architectures: Sequence[Architecture]) -> Summary:
        """Sums over nodes; features are shares of the time by operator and norm, log time, log nodes, share measured."""
        columns = len(self._labels) + len(self._norms)
        shares = np.zeros((len(architectures), columns + 3))
        seconds, error = np.zeros(len(architectures)), np.zeros(len(architectures))
        for row, architecture in enumerate(architectures):
            cells = self._cells_of(architecture)
            total = squared = measured = 0.0
            for time, spread, known, label, norm in cells:
                total += time
                squared += (time * spread) ** 2
                measured += time * known
                if label is not None:
                    shares[row, label] += time
                if norm is not None:
                    shares[row, norm] += time
            seconds[row], error[row] = total, math.sqrt(squared) / total
            shares[row, :columns] /= total
            shares[row, columns:] = math.log(total), math.log(len(cells)), measured / total
        return Summary(seconds, error, shares)

    def _cells_of(self, architecture: Architecture) -> list[tuple[float, float, float, int | None, int | None]]:
        """What the summary needs of each node: seconds, relative error, measured or not, columns of operator and norm."""
        found = self.nodes_of(architecture)
        keys = [node.key for node in found]
        if any(key not in self._cells for key in keys):
            for node, key, item in zip(found, keys, self.times(found, keys), strict=True):
                label, norm = self._index.get(operator_label(node)), self._norm_index.get(node.norm)
                self._cells[key] = (item.seconds, item.error, float(item.measured), label, norm)
        return [self._cells[key] for key in keys]


def cross_residuals(fit: Callable[[Summary, Array], Correction], summary: Summary, latency: Array) -> Array:
    """log(measured / predicted) of every network by a model that was fitted without its fold."""
    rest = np.empty(len(latency))
    folds = np.arange(len(latency)) % min(FOLDS, len(latency))
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        rest[test] = np.log(latency[test]) - fit(summary.take(train), latency[train])(summary.take(test))
    return rest


def simplest(residuals: dict[str, Array]) -> str:
    """The first model whose squared residuals exceed the best one's by no more than a standard error of the difference."""
    best = min(residuals, key=lambda name: float(np.mean(residuals[name] ** 2)))
    for name, rest in residuals.items():
        excess = rest**2 - residuals[best] ** 2
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            return name
    return best


def conformal_quantile(scores: Array, confidence: float) -> float:
    """The ceil((n + 1) confidence)-th smallest score (Vovk et al. 2005); where n is too small for it, a normal tail beyond
    the largest score. Raises UsageError for a confidence outside (0, 1)."""
    from scipy.stats import norm

    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, got {confidence}; write 0.95 for 95 %")
    rank = math.ceil((len(scores) + 1) * confidence)
    ordered = np.sort(scores)
    if rank <= len(scores):
        return float(ordered[rank - 1])
    covered = len(scores) / (len(scores) + 1)
    return float(ordered[-1] * max(1.0, norm.ppf(confidence) / norm.ppf(covered))) if ordered[-1] > 0 else 0.0
