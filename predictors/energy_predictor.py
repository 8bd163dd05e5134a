"""`EnergyPredictor`: the energy of an architecture as its predicted latency times its power, with an honest interval.

The latency predictor knows each node's time; what is learned here from the counted networks is the power (W), their energy
over their predicted latency. It differs little between networks: more where there are many MACs and bytes a second, less where
small operations wait for each other. Cross-validation chooses between one power for all, a ridge and a Gaussian process on
features of the graph, and the simplest wins where the others are not better by more than a standard error.

Latencies of counted networks are predicted as if they were new, so the errors of the power hold those of the latency, as far as
the features do not undo them: an energy may be better known than the latency it goes by. The interval is split-conformal, and
wider where the latency's is wider than usual, for nodes unlike the measured ones and out of the range of what was measured, and
where more of the latency would have to be undone than of any counted network. Latencies from inherited node times are left out
but for the mixture of the tables, which was fitted to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.assessment import Assessment, assess
from nas.predictors.corrections import FOLDS, simplest
from nas.predictors.cost import node_cost
from nas.predictors.graph_sums import GraphSums
from nas.predictors.latency_predictor import LatencyPredictor, Prediction, conformal_quantile
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.regression import Ridge, one_thread
from nas.predictors.summaries import group_of
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import AMOUNTS, SUMMARY, Layout
from nas.predictors.surrogates.process import Process
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node

MIN_NETWORKS = 8
FLOOR = 1e-3
"""The least relative error of a power."""


class Powers(NamedTuple):
    """Logarithms of powers (W), what the model knows of their deviations (0: nothing), and by how much it was kept from going
    far beyond what was counted, all (n,)."""

    mean: Array
    deviation: Array
    beyond: Array


Power = Callable[[Array], Powers]
"""Powers for features (n, d)."""
Fit = Callable[[Layout, Array, Array], Power]


class EnergyPredictor:
    """Predicts energies (J) of one run of a batch on the target of a table, beside the latency predictor of that table.

    `model` names what cross-validation chose.
    """

    def __init__(self, latency: LatencyPredictor) -> None:
        self.latency = latency
        table = self.table
        groups = sorted({group_of(item.node) for item in table.nodes.values()})
        self._places = {group: number for number, group in enumerate(groups)}
        self._layout = Layout(((SUMMARY, 4), (AMOUNTS, len(groups))))
        self._sums = GraphSums(self._rows, table.in_channels, table.num_classes)
        self._fit()

    @classmethod
    def fit(cls, latency: LatencyPredictor) -> Self:
        """Fit to the energies of the training networks in the latency predictor's table.

        Raises MeasurementError, with the command that counts energies, where it holds fewer than 8.
        """
        require_energies(latency.table)
        return cls(latency)

    @property
    def table(self) -> LatencyTable:
        """All that the predictor rests on."""
        return self.latency.table

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Energies and their standard deviations in joules. Raises what `LatencyPredictor.predict` raises, as do all below."""
        middle, width = self._predicted(architectures)
        mean = np.exp(middle)
        return Prediction(mean, mean * width * self._deviation)

    def interval(self, architectures: Sequence[Architecture], confidence: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper bounds (J) that hold for a new architecture with about this probability."""
        middle, width = self._predicted(architectures)
        reach = conformal_quantile(np.abs(self._residuals), confidence) * width
        return np.exp(middle - reach), np.exp(middle + reach)

    def upper(self, architectures: Sequence[Architecture], confidence: float = 0.95) -> Array:
        """An energy in joules that a new architecture stays below with about this probability."""
        middle, width = self._predicted(architectures)
        return np.exp(middle + max(conformal_quantile(self._residuals, confidence), 0.0) * width)

    def assess(self, architectures: Sequence[Architecture], measured: Sequence[float]) -> Assessment:
        """How well counted energies (J) of networks that were not learned from are predicted."""
        low, high = self.interval(architectures, 0.9)
        return assess(self.predict(architectures).mean, np.asarray(measured, float), low, high)

    def assessment(self) -> Assessment | None:
        """How well the held-out networks of the table are predicted; None for fewer than two."""
        held = [item.architecture for item in self.table.of_role(HELD_OUT) if item.architecture.digest in self.table.energies]
        if len(held) < 2:
            return None
        return self.assess(held, [self.table.energies[item.digest].joules for item in held])

    def _fit(self) -> None:
        energies = self.table.energies
        known = [item.architecture for item in self.table.of_role(TRAIN) if item.architecture.digest in energies]
        # By the predicted latency, as for new networks: a measured one has an error of its own, which power knows nothing of.
        time = self.latency.left_out(known)
        joules = np.array([energies[architecture.digest].joules for architecture in known])
        features, power = self._features(known, time.mean), np.log(joules / time.mean)
        with one_thread():
            tried = {name: _cross_validated(fit, self._layout, features, power) for name, fit in MODELS.items()}
            self.model = simplest({name: rest for name, (rest, _) in tried.items()})
            self._power = MODELS[self.model](self._layout, features, power)
        rest, left = tried[self.model]
        self._floor = max(float(np.median(np.abs(rest))), FLOOR)
        self._usual = float(np.median(time.std / time.mean))
        self._residuals = rest / self._width(left, time)
        self._deviation = float(np.sqrt(np.mean(self._residuals**2)))

    def _predicted(self, architectures: Sequence[Architecture]) -> tuple[Array, Array]:
        """Logarithms of predicted energies and the scale of their errors, both (n,)."""
        time = self.latency.predict(architectures)
        with one_thread():
            power = self._power(self._features(architectures, time.mean))
        return np.log(time.mean) + power.mean, self._width(power, time)

    def _width(self, power: Powers, time: Prediction) -> Array:
        """The scales of relative errors, (n,): the typical one or the model's, of which no more than the latency's usual error
        comes from there and grows with it, and the part of the latency's error that a bounded power could not undo."""
        own = np.where(power.deviation > 0, power.deviation, self._floor)
        growth = np.maximum(1, time.std / time.mean / self._usual) ** 2 - 1
        return np.sqrt(own**2 + growth * np.minimum(own, self._usual) ** 2 + power.beyond**2)

    def _features(self, architectures: Sequence[Architecture], seconds: Array) -> Array:
        """Logarithms of the seconds and of parameters, MACs and bytes a second; the share of each group in the MACs."""
        sums = self._sums(architectures).values
        work, groups = sums[:, :3] + 1.0, sums[:, 3:]
        shares = groups / np.maximum(groups.sum(1, keepdims=True), 1.0)
        return np.concatenate([np.log(seconds)[:, None], np.log(work / seconds[:, None]), shares], 1)

    def _rows(self, items: Sequence[Node]) -> Array:
        """Parameters, MACs and bytes of activations of each node, then its MACs in the column of its group."""
        rows = np.zeros((len(items), 3 + len(self._places)))
        for row, node in zip(rows, items, strict=True):
            cost, place = node_cost(node), self._places.get(group_of(node))
            row[:3] = cost.params, cost.macs, cost.activation_bytes
            if place is not None:
                row[3 + place] = cost.macs
        return rows


def can_predict(table: LatencyTable) -> bool:
    """Whether a table holds energies enough to learn from."""
    return _known(table) >= MIN_NETWORKS


def _known(table: LatencyTable) -> int:
    return sum(item.architecture.digest in table.energies for item in table.of_role(TRAIN))


def require_energies(table: LatencyTable) -> None:
    """Raise MeasurementError, with the remedy, where a table holds too few energies to learn from."""
    known = _known(table)
    if known < MIN_NETWORKS:
        raise MeasurementError(
            f"the latency table of {table.target} holds the energy of {known} networks, and a prediction needs {MIN_NETWORKS}; "
            f"count them by `nas profile --target {table.target} --energy`, with the table's other options and --out"
        )


def predict_energy(latency: LatencyPredictor, architectures: Sequence[Architecture]) -> Prediction:
    """Energies (J) of a run on the target of a latency predictor's table. Raises MeasurementError where it holds none."""
    return EnergyPredictor.fit(latency).predict(architectures)


def _constant(layout: Layout, features: Array, power: Array) -> Power:
    middle = float(np.median(power))
    return lambda new: Powers(np.full(len(new), middle), np.zeros(len(new)), np.zeros(len(new)))


def _ridge(layout: Layout, features: Array, power: Array) -> Power:
    found = Ridge.fit(features, power)
    return lambda new: _bounded(power, found.predict(new), np.zeros(len(new)))


def _process(layout: Layout, features: Array, power: Array) -> Power:
    kernels = (Kernel("linear", (SUMMARY,)), Kernel("linear", (AMOUNTS,)), Kernel("smooth", (SUMMARY,), 2.0))
    found = Process.fit(kernels, layout, features, power, np.ones(len(power)))
    return lambda new: _bounded(power, *found.predict(layout, new, np.ones(len(new))))


def _bounded(known: Array, mean: Array, deviation: Array) -> Powers:
    """No network is taken to need much less or more power than all that were counted, whose logarithms are `known`."""
    reach = float(np.ptp(known)) / 2
    kept = np.clip(mean, known.min() - reach, known.max() + reach)
    return Powers(kept, deviation, np.abs(mean - kept))


MODELS: dict[str, Fit] = {"one power": _constant, "ridge": _ridge, "process": _process}


def _cross_validated(fit: Fit, layout: Layout, features: Array, power: Array) -> tuple[Array, Powers]:
    """log(counted / predicted) (n,) of every power by a model that was fitted without its fold, and what it predicted."""
    left = Powers(*(np.empty(len(power)) for _ in Powers._fields))
    folds = np.arange(len(power)) % min(FOLDS, len(power))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        found = fit(layout, features[train], power[train])(features[test])
        for column, part in zip(left, found, strict=True):
            column[test] = part
    return power - left.mean, left
