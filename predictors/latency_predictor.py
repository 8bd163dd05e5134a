"""`LatencyPredictor`: the latency of an architecture from its node times, corrected by whole networks, with an honest interval.

log T = log(sum of node times) + growth(number of nodes) + correction(network). The correction is a mean of several, each of
which counts by its cross-validated error on the measured networks (see `nas.predictors.corrections`). Intervals are conformal,
in units of an error that grows where nodes were not measured, are unlike the measured ones, or make a network faster or slower
than all measured ones. An operator that the target never ran is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nas.errors import MeasurementError, UsageError
from nas.predictors.assessment import Assessment, assess
from nas.predictors.corrections import MODELS, Summary, averaged, cross_validated, shares, simplest
from nas.predictors.kernel_times import IN_PLACE
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.node_times import NodeTimes
from nas.predictors.regression import one_thread
from nas.predictors.summaries import Summaries
from nas.predictors.timings import Array, Measurement
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node, nodes

MIN_NETWORKS = 8
BEYOND = 0.25
"""Relative error added for each factor of e by which a network's sum lies outside those of the measured networks."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted latencies (s), or energies (J), and their standard deviations, both (n,)."""

    mean: Array
    std: Array


class LatencyPredictor:
    """Predicts latencies on the target of a table. All state is the table: fitting it again gives the same predictor.

    `shares` tells how much which corrections count, `model` names the simplest that is about as good as the best: what it knows
    of its errors shapes the intervals. `scores` gives the cross-validated MAPE of all.
    """

    def __init__(self, table: LatencyTable, times: NodeTimes) -> None:
        self.table, self.times = table, times
        self._summaries = Summaries(table, times)
        self.model = ""
        self.shares: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self._refit()

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """Fit to the table's nodes and the networks of role `train`.

        Raises MeasurementError where the table holds too little: 2 node times, 8 training networks.
        """
        return cls(table, NodeTimes.fit(table))

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Latencies at the architectures' own resolutions, in seconds.

        Raises MeasurementError, as do `interval` and `upper`, for an operator that no measured node of the target has.
        """
        found, width = self._corrected(architectures)
        mean = np.exp(found)
        return Prediction(mean, mean * width * self._deviation)

    def interval(self, architectures: Sequence[Architecture], confidence: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper bounds that hold for a new architecture with about this probability (split-conformal)."""
        middle, width = self._corrected(architectures)
        reach = conformal_quantile(np.abs(self._residuals), confidence) * width
        return np.exp(middle - reach), np.exp(middle + reach)

    def upper(self, architectures: Sequence[Architecture], confidence: float = 0.95) -> Array:
        """A latency in seconds that a new architecture stays below with about this probability."""
        middle, width = self._corrected(architectures)
        return np.exp(middle + conformal_quantile(self._residuals, confidence) * width)

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
        seconds = [item.seconds for item in self.times(found)]
        scale = float(self.predict([architecture]).mean[0]) / sum(seconds)
        return {node.name: value * scale for node, value in zip(found, seconds, strict=True)}

    def nodes_of(self, architecture: Architecture) -> tuple[Node, ...]:
        """The architecture's nodes, with the table's channels and classes."""
        return nodes(architecture, None, self.table.in_channels, self.table.num_classes)

    def left_out(self, known: Sequence[Architecture]) -> Prediction:
        """Latencies (s) of training networks and their standard deviations, both (n,), as if they were new: each by corrections
        that were fitted without its fold. Raises KeyError for a network that is not a training network of the table.
        """
        rows = [self._rows[architecture.digest] for architecture in known]
        return Prediction(self._left_out.mean[rows], self._left_out.std[rows])

    def summary(self, architectures: Sequence[Architecture]) -> Summary:
        """What corrections see of architectures: sums over nodes and the columns of `Summary`. Refuses nothing."""
        return self._summaries(architectures)[0]

    def _as_new(self, known: Sequence[Architecture]) -> Summary:
        """What corrections would see of training networks if they were new: where they brought node times along, these are
        better known of them than of any network that is asked about."""
        brought = self.table.environment.get("nodes", IN_PLACE) != IN_PLACE and not self.table.ancestry
        return self._summaries.left_out(known) if brought else self.summary(known)

    def _refit(self) -> None:
        """Weigh the corrections by cross-validation, and calibrate the interval on the left-out residuals of their mean."""
        known = list(self.table.of_role(TRAIN))
        if len(known) < MIN_NETWORKS:
            raise MeasurementError(
                f"the latency table of {self.table.target} has {len(known)} training networks, "
                f"and the predictor needs {MIN_NETWORKS}; profile for longer"
            )
        summary = self._as_new([item.architecture for item in known])
        latency = self.table.latency(known)
        with one_thread():
            tried = {name: cross_validated(fit, summary, latency) for name, fit in MODELS.items()}
            residuals = {name: rest for name, (rest, _) in tried.items()}
            self.shares = shares(residuals)
            self.model = simplest({name: residuals[name] for name in self.shares})
            self._corrections = {name: MODELS[name](summary, latency) for name in self.shares}
        self.scores = {name: float(np.mean(np.abs(np.expm1(-rest)))) for name, rest in residuals.items()}
        self._range = float(summary.seconds.min()), float(summary.seconds.max())
        rest, deviation = averaged(residuals), tried[self.model][1]
        self._floor = max(float(np.median(np.abs(rest))), 1e-3)
        width = self._width(summary, deviation)
        self._residuals = rest / width
        self._deviation = float(np.sqrt(np.mean(self._residuals**2)))
        self._rows = {item.architecture.digest: row for row, item in enumerate(known)}
        mean = latency * np.exp(-rest)
        self._left_out = Prediction(mean, mean * width * self._deviation)

    def _corrected(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        """Logarithms of predicted latencies and the scale of their errors, both (n,)."""
        summary, refused = self._summaries(architectures)
        if refused.any():
            raise self._refusal(architectures[int(refused.argmax())])
        with one_thread():
            found = {name: made(summary, sure=name == self.model) for name, made in self._corrections.items()}
        mean = np.sum([self.shares[name] * corrected.mean for name, corrected in found.items()], 0)
        return np.asarray(mean), self._width(summary, found[self.model].deviation)

    def _width(self, summary: Summary, deviation: Array) -> Array:
        """The scale of each relative error: the typical one or the correction's, the nodes', and that of leaving the range."""
        low, high = self._range
        outside = np.maximum(0, np.maximum(np.log(summary.seconds / high), np.log(low / summary.seconds)))
        return np.sqrt(np.where(deviation > 0, deviation, self._floor) ** 2 + summary.error**2 + (BEYOND * outside) ** 2)

    def _refusal(self, architecture: Architecture) -> MeasurementError:
        """The error that names the operators of an architecture that no measured node has."""
        strangers = {node.operator for node in self.nodes_of(architecture) if self._summaries.unknown(node)}
        return MeasurementError(
            f"the latency table of {self.table.target} holds no time of {', '.join(sorted(strangers))}, so the latency of "
            f"{architecture.digest} is not known; profile a space that has it, or leave it out of this one"
        )


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
