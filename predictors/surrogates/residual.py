"""A table times a learned correction: log value = log table + residual."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from nas.predictors.surrogates.base import Surrogate, register_surrogate
from nas.predictors.surrogates.boosting import BoostingSurrogate, boosted, tree_columns
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import AMOUNTS, CHOICES, COUNTS, LABELS, PROXIES, STAGES, SUMMARY, Layout
from nas.predictors.surrogates.process import Process
from nas.predictors.surrogates.scale import Scale
from nas.predictors.surrogates.table import Prices
from nas.predictors.timings import Array


class ResidualSurrogate(Surrogate):
    """The residual on the log ratio of value and table; the table's mean value is 1, as residuals divide by it."""

    groups: ClassVar[tuple[str, ...]] = (COUNTS, AMOUNTS)

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        self._unit, self._prices, ratio, pilot = self._table(layout, features, latent)
        self._fit_residual(layout, features, ratio, pilot)

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        pilot = self._prices(layout.pick(features, *self.groups))
        mean, deviation = self._predict_residual(layout, features, pilot)
        return self._join(self._unit, pilot, mean, deviation)

    def _table(self, layout: Layout, features: Array, latent: Array) -> tuple[float, Prices, Array, Array]:
        """The unit of the values, the table, log ratios (n,) and the table's values (n,) in that unit."""
        values = self._ready()[0].backward(latent)
        unit = float(np.median(values))
        amounts = layout.pick(features, *self.groups)
        prices = Prices.fit(amounts, values / unit, relative=True)
        pilot = prices(amounts)
        return unit, prices, np.log(values / unit / pilot), pilot

    def _join(self, unit: float, pilot: Array, mean: Array, deviation: Array) -> tuple[Array, Array]:
        """Mean and deviation on the scale, of those of log ratios."""
        scale: Scale = self._ready()[0]
        value = unit * pilot * np.exp(np.clip(mean, -3, 3))
        if scale.name == "log":
            return np.log(value), deviation
        return scale.forward(value), deviation * value

    @abstractmethod
    def _fit_residual(self, layout: Layout, features: Array, ratio: Array, pilot: Array) -> None:
        """Fit to log ratios (n,)."""

    @abstractmethod
    def _predict_residual(self, layout: Layout, features: Array, pilot: Array) -> tuple[Array, Array]:
        """Mean and deviation of log ratios."""


@register_surrogate("table_gp", "the table times a Gaussian process on the log ratio")
class TableProcess(ResidualSurrogate):
    """The process is linear in amounts, stages and choices against the table's value, which corrects the sum where the data
    speak for it, and smooth in the summary."""

    kernels: ClassVar[tuple[Kernel, ...]] = (
        Kernel("share", (COUNTS, AMOUNTS)),
        Kernel("share", (STAGES,)),
        Kernel("share", (CHOICES,)),
        Kernel("linear", (PROXIES,)),
        Kernel("smooth", (SUMMARY,), 1.0),
        Kernel("smooth", (SUMMARY,), 3.0),
        Kernel("smooth", (CHOICES,), 2.0),
        Kernel("cosine", (LABELS,), 1.0),
    )

    def _fit_residual(self, layout: Layout, features: Array, ratio: Array, pilot: Array) -> None:
        self._process = Process.fit(self.kernels, layout, features, ratio, pilot)

    def _predict_residual(self, layout: Layout, features: Array, pilot: Array) -> tuple[Array, Array]:
        return self._process.predict(layout, features, pilot)

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate, with the weights that all rows chose; the table is fitted anew."""
        scale, layout = self._ready()
        latent = scale.forward(values)
        means, deviations = np.zeros(len(values)), np.zeros(len(values))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(values)), fold)
            unit, prices, _, _ = self._table(layout, features[rest], latent[rest])
            pilot = prices(layout.pick(features, *self.groups))
            mean, deviation = self._process.left_out(np.log(values / unit / pilot), fold)
            means[fold], deviations[fold] = self._join(unit, pilot[fold], mean, deviation)
        return means, deviations


@register_surrogate("fine_table_gp", "the fine table times a Gaussian process on the log ratio")
class FineTableProcess(TableProcess):
    """As `table_gp`, on amounts by operator and by place."""

    groups = (COUNTS, AMOUNTS, STAGES)


@register_surrogate("table_boosting", "the table times gradient-boosted trees on the log ratio")
class TableBoosting(ResidualSurrogate):
    """The trees see all columns but Weisfeiler-Lehman labels."""

    def _fit_residual(self, layout: Layout, features: Array, ratio: Array, pilot: Array) -> None:
        self._trees = BoostingSurrogate(layout, "linear", self.seed).fit(features, ratio)

    def _predict_residual(self, layout: Layout, features: Array, pilot: Array) -> tuple[Array, Array]:
        return self._trees.latent(features)

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate; the deviation is that of all left-out rows."""
        scale, layout = self._ready()
        latent, means = scale.forward(values), np.zeros(len(values))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(values)), fold)
            unit, prices, ratio, _ = self._table(layout, features[rest], latent[rest])
            trees = boosted(tree_columns(layout, features[rest]), ratio, self.seed)
            pilot = prices(layout.pick(features[fold], *self.groups))
            mean = trees.predict(tree_columns(layout, features[fold]))
            means[fold] = self._join(unit, pilot, mean, np.zeros(len(fold)))[0]
        return means, np.full(len(values), np.sqrt(np.mean((means - latent) ** 2)))
