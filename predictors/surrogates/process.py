"""A Gaussian process whose kernel is a sum of kernels over groups of columns, each with its own weight.

Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1 and equation 5.9: weights and noise
maximise the marginal likelihood, under a wide prior, by L-BFGS with its exact gradient. What the data do not speak for gets
a weight near nothing, so that one process serves sums of amounts, interactions and graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from nas.predictors.surrogates.kernels import FittedKernel, Kernel
from nas.predictors.surrogates.layout import Layout
from nas.predictors.timings import Array

WEIGHING_ROWS = 200
"""Rows that choose the weights; all rows make the posterior."""
PRIOR = 3.0
"""Standard deviation of the logarithm of a weight."""
JITTER = 1e-6
SMALLEST = 1e-4
"""Kernels of less weight are left out of predictions; the target has variance 1."""
CHUNK = 4000
ITERATIONS = 30
ROBUST_FROM, STRAYED, CALM = 100, 3.5, 2.0
"""A row whose left-out error is beyond so many deviations makes the noise of those beyond the second number wider, until
they are so far: a few disturbed measurements then neither bend the fit nor pass for noise everywhere (the outlier model of
Rasmussen and Williams, section 9.5, by reweighting)."""


@dataclass(frozen=True, slots=True)
class Process:
    """The posterior given n rows: mean(x) = centre + unit k(x)' alpha."""

    kernels: tuple[FittedKernel, ...]
    rows: tuple[Array, ...]
    weights: Array
    covariance: Array
    centre: float
    unit: float
    factor: Array
    alpha: Array

    @classmethod
    def fit(cls, kernels: Sequence[Kernel], layout: Layout, features: Array, values: Array, pilot: Array) -> Self:
        """Fit to features (n, d) and values (n,); `pilot` (n,) is what `share` kernels divide by."""
        fitted = [FittedKernel.fit(kernel, layout, features, pilot) for kernel in kernels if _has(layout, kernel)]
        centre, unit = float(values.mean()), max(float(values.std()), 1e-9)
        target = (values - centre) / unit
        grams = [np.ones((len(values), len(values)))] + [made.between(rows, rows) for made, rows in fitted]
        some = np.unique(np.linspace(0, len(values) - 1, min(len(values), WEIGHING_ROWS)).astype(int))
        stack = np.stack(grams)
        part = stack[:, some[:, None], some]
        noise = np.ones(len(target))
        weights = _weights(part, target[some], noise[some])
        covariance, factor, alpha = _posterior(stack, target, weights, noise)
        strayed = np.abs(alpha) / np.sqrt(np.diag(cho_solve((factor, True), np.eye(len(target)))))
        if len(target) >= ROBUST_FROM and (strayed > STRAYED).any():
            noise = np.maximum(1, (strayed / CALM) ** 2)
            weights = _weights(part, target[some], noise[some], weights)
            covariance, factor, alpha = _posterior(stack, target, weights, noise)
        kept = tuple(made for made, _ in fitted)
        return cls(kept, tuple(rows for _, rows in fitted), weights, covariance, centre, unit, factor, alpha)

    def predict(self, layout: Layout, features: Array, pilot: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, noise included, for rows (m, d) and their pilots."""
        parts = [slice(start, start + CHUNK) for start in range(0, len(features), CHUNK)]
        found = [self._predict(layout, features[part], pilot[part]) for part in parts]
        return np.concatenate([mean for mean, _ in found]), np.concatenate([deviation for _, deviation in found])

    def mean(self, layout: Layout, features: Array, pilot: Array) -> Array:
        """The means of `predict` (m,), without the deviations, which take most of its time."""
        parts = [slice(start, start + CHUNK) for start in range(0, len(features), CHUNK)]
        return np.concatenate([self._mean(layout, features[part], pilot[part]) for part in parts])

    def _mean(self, layout: Layout, features: Array, pilot: Array) -> Array:
        found = np.full(len(features), self.weights[0] * self.alpha.sum())
        for weight, kernel, rows in zip(self.weights[1:-1], self.kernels, self.rows, strict=True):
            if weight > SMALLEST:
                found += weight * kernel.summed(kernel.rows(layout, features, pilot), rows, self.alpha)
        return self.centre + self.unit * found

    def _predict(self, layout: Layout, features: Array, pilot: Array) -> tuple[Array, Array]:
        cross = np.full((len(features), len(self.alpha)), self.weights[0])
        prior = np.full(len(features), self.weights[0] + self.weights[-1])
        for weight, kernel, rows in zip(self.weights[1:-1], self.kernels, self.rows, strict=True):
            if weight > SMALLEST:
                new = kernel.rows(layout, features, pilot)
                cross += weight * kernel.between(new, rows)
                prior += weight * ((new**2).sum(1) if kernel.kernel.form in ("linear", "share") else 1.0)
        explained = (solve_triangular(self.factor, cross.T, lower=True) ** 2).sum(0)
        deviation = np.sqrt(np.maximum(prior - explained, self.weights[-1]))
        return self.centre + self.unit * (cross @ self.alpha), self.unit * deviation

    def left_out(self, values: Array, fold: Array) -> tuple[Array, Array]:
        """Mean and deviation at the rows of a fold given all others, whose values (n,) may be other ones than were fitted."""
        rest = np.setdiff1d(np.arange(len(values)), fold)
        centre = float(values[rest].mean())
        factor = np.linalg.cholesky(self.covariance[np.ix_(rest, rest)])
        cross = self.covariance[np.ix_(fold, rest)]
        alpha = cho_solve((factor, True), (values[rest] - centre) / self.unit)
        explained = (solve_triangular(factor, cross.T, lower=True) ** 2).sum(0)
        variance = np.maximum(self.covariance[fold, fold] - explained, self.weights[-1])
        return centre + self.unit * (cross @ alpha), self.unit * np.sqrt(variance)


def _has(layout: Layout, kernel: Kernel) -> bool:
    return any(group in layout.names for group in kernel.groups)


def _posterior(stack: Array, target: Array, weights: Array, noise: Array) -> tuple[Array, Array, Array]:
    """The covariance of the rows, its Cholesky factor, and its inverse times the target."""
    covariance = np.tensordot(weights[:-1], stack, 1)
    covariance[np.diag_indices(len(target))] += weights[-1] * noise + JITTER
    factor = np.asarray(np.linalg.cholesky(covariance), np.float64)
    return covariance, factor, cho_solve((factor, True), target)


def _weights(stack: Array, target: Array, noise: Array, warm: Array | None = None) -> Array:
    """The weight of each kernel and the noise (kernels + 1,) that make the target most likely.

    `stack` (kernels, n, n), `noise` (n,) the variance of each row's noise against the others'; `warm` is where to start.
    """
    start = np.log(np.append(np.full(len(stack), 0.3 / len(stack)), 0.2))
    identity = np.eye(len(target))

    def loss(logs: Array) -> tuple[float, Array]:
        weights = np.exp(logs)
        covariance = np.tensordot(weights[:-1], stack, 1) + np.diag(weights[-1] * noise + JITTER)
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(logs)
        inverse = cho_solve((factor, True), identity)
        alpha = inverse @ target
        slope = np.outer(alpha, alpha) - inverse
        gradient = 0.5 * weights * np.append(np.tensordot(stack, slope, 2), np.diag(slope) @ noise)
        away = (logs - start) / PRIOR
        value = 0.5 * float(target @ alpha) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(away @ away)
        return value, away / PRIOR - gradient

    bounds = [(-14.0, 5.0)] * len(stack) + [(-12.0, 2.0)]
    first = start if warm is None else np.log(warm)
    found = minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": ITERATIONS if warm is None else ITERATIONS // 3},
    )
    return np.asarray(np.exp(found.x))
