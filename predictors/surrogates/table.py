"""Additive tables: a time is a sum of non-negative amounts, each with its own price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.optimize import nnls

from nas.errors import UsageError
from nas.predictors.surrogates.base import Surrogate, register_surrogate, split_folds
from nas.predictors.surrogates.layout import AMOUNTS, COUNTS, STAGES, Layout
from nas.predictors.timings import Array

FLOOR = 0.3
"""No prediction is below this share of the smallest value that was fitted to."""
FOLDS = 5
REWEIGHTINGS, BEND = 4, 2.0
"""How often errors are weighed again, and from what multiple of their median on they count less."""


@dataclass(frozen=True, slots=True)
class Prices:
    """value = constant + amounts @ prices, all non-negative (Lawson and Hanson 1974, non-negative least squares)."""

    prices: Array
    floor: float

    @classmethod
    def fit(cls, amounts: Array, values: Array, relative: bool) -> Self:
        """The prices that leave the least error, relative to the values (n,) or not. Amounts are (n, k).

        Errors count by Huber's loss (1964, Annals of Mathematical Statistics 35), by reweighting: a few measurements that
        something else disturbed do not move the prices of all. Raises UsageError for values that are not positive.
        """
        if not (values > 0).all():
            raise UsageError(f"a table needs positive values, got {values.min():g}; take another surrogate")
        design = _with_constant(amounts)
        unit = np.abs(design).mean(0)
        unit = np.where(unit > 1e-9, unit, np.inf)  # what no row has gets no price
        design = design / unit
        base = 1 / values if relative else np.full(len(values), 1 / values.mean())
        weight = base
        for _ in range(REWEIGHTINGS):
            found, _ = nnls(design * weight[:, None], values * weight, maxiter=10 * design.shape[1] + 100)
            error = np.abs(design @ found - values) * base
            bound = max(BEND * float(np.median(error)), 1e-6)
            weight = base * np.sqrt(np.minimum(1, bound / np.maximum(error, 1e-12)))
        return cls(found / unit, FLOOR * float(values.min()))

    def __call__(self, amounts: Array) -> Array:
        """Values (n,) of amounts (n, k)."""
        return np.maximum(_with_constant(amounts) @ self.prices, self.floor)


def _with_constant(amounts: Array) -> Array:
    return np.concatenate([np.ones((len(amounts), 1)), amounts], 1)


class TableSurrogate(Surrogate):
    """Prices of some groups of amounts; its deviation is that of five folds, on the scale."""

    groups: ClassVar[tuple[str, ...]] = (COUNTS, AMOUNTS)
    relative: ClassVar[bool] = True

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        scale, _ = self._ready()
        amounts, values = layout.pick(features, *self.groups), scale.backward(latent)
        self._prices = Prices.fit(amounts, values, self.relative)
        self._deviation = float(self._folded(amounts, values, split_folds(len(latent), FOLDS, self.seed))[1][0])

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        scale, _ = self._ready()
        mean = scale.forward(self._prices(layout.pick(features, *self.groups)))
        return mean, np.full(len(mean), self._deviation)

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate; the deviation is that of all left-out rows."""
        return self._folded(self._ready()[1].pick(features, *self.groups), values, folds)

    def _folded(self, amounts: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """Each row's value from a table that left its fold out, and the deviation of all of them, on the scale."""
        scale, _ = self._ready()
        found = np.zeros(len(values))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(values)), fold)
            found[fold] = Prices.fit(amounts[rest], values[rest], self.relative)(amounts[fold])
        means = scale.forward(found)
        return means, np.full(len(means), np.sqrt(np.mean((means - scale.forward(values)) ** 2)))


@register_surrogate("count_table", "a sum of the counts of operators, least absolute error")
class CountTable(TableSurrogate):
    """The plainest table: on devices that run what they are given, one price for each operator says nearly all."""

    groups = (COUNTS,)
    relative = False


@register_surrogate("table", "a sum of non-negative amounts by operator, least relative error")
class Table(TableSurrogate):
    """Amounts by operator: few prices, so fifty measurements are enough."""


@register_surrogate("table_absolute", "a sum of non-negative amounts by operator, least absolute error")
class AbsoluteTable(TableSurrogate):
    """As `table`, but large values count for more."""

    relative = False


@register_surrogate("fine_table", "a sum of non-negative amounts by operator and by stage, least relative error")
class FineTable(TableSurrogate):
    """Amounts by operator and by place."""

    groups = (COUNTS, AMOUNTS, STAGES)
