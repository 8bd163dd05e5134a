"""From work to time: one price for each resource, shared by all operators, found by non-negative least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import linprog, nnls
from scipy.sparse import csr_array, eye_array, hstack

from nas.predictors.timings import Array

REWEIGHTINGS, BEND = 6, 2.0
"""How often errors are weighed again, and from what multiple of their median on they count less."""
FAR = 0.2
"""A fitted value counts as no less than this share of the measured one when errors are weighed."""
LEAST = 1e-7
"""Seconds that no node takes less than."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """seconds = constant + amounts @ prices, all non-negative; `prices` (resources + 1,), the constant first."""

    prices: Array

    @classmethod
    def fit(cls, amounts: Array, seconds: Array) -> Self:
        """The prices that leave the least relative error of n nodes, amounts (n, resources) and seconds (n,).

        Errors are relative to the geometric mean of fitted and measured seconds, so that a factor counts the same both ways,
        and count by Huber's loss (1964, Annals of Mathematical Statistics 35), both by reweighting. It begins at the least
        absolute error: from least squares, a few disturbed nodes with much work are left behind only after hundreds of turns.
        """
        design = _with_constant(amounts)
        unit = design.mean(0)
        design = design / np.where(unit > 0, unit, np.inf)  # what no node has gets no price
        found = _least_absolute(design / seconds[:, None])
        for _ in range(REWEIGHTINGS):
            fitted = np.maximum(design @ found, LEAST)
            error = np.abs(np.log(fitted / seconds))
            bound = max(BEND * float(np.median(error)), 1e-6)
            weight = np.sqrt(np.minimum(1, bound / np.maximum(error, 1e-12)) / (seconds * np.maximum(fitted, FAR * seconds)))
            found, _ = nnls(design * weight[:, None], seconds * weight, maxiter=10 * design.shape[1] + 100)
        return cls(found / np.where(unit > 0, unit, np.inf))

    def __call__(self, amounts: Array) -> Array:
        """Seconds (n,) of amounts (n, resources)."""
        return np.asarray(np.maximum(_with_constant(amounts) @ self.prices, LEAST))

    def shares(self, amounts: Array) -> Array:
        """What share of the seconds each resource takes, (n, resources + 1), the constant first."""
        return _with_constant(amounts) * self.prices / self(amounts)[:, None]


def _least_absolute(relative: Array) -> Array:
    """The non-negative prices (k,) whose sums `relative` @ prices, (n,), are nearest to 1 by absolute differences."""
    count, prices = relative.shape
    over = eye_array(count)
    cost = np.concatenate([np.zeros(prices), np.ones(2 * count)])
    found = linprog(cost, A_eq=hstack([csr_array(relative), over, -over]), b_eq=np.ones(count), bounds=(0, None))
    return np.asarray(found.x[:prices], np.float64)


def _with_constant(amounts: Array) -> Array:
    return np.concatenate([np.ones((len(amounts), 1)), amounts], 1)
