"""Gaussian-process and ridge regression, small and deterministic, with hyperparameters from a grid."""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import threadpoolctl  # type: ignore[import-untyped]
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.spatial.distance import cdist

from nas.predictors.timings import Array

JITTER = 1e-8
GRID_ROWS = 250  # rows that choose the hyperparameters; all rows make the posterior


@dataclass(frozen=True, slots=True)
class Scaler:
    """Columns to mean 0 and standard deviation 1; columns that do not vary become 0."""

    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, x: Array) -> Self:
        """The scaling of the rows of `x` (n, features)."""
        deviation = x.std(0)
        return cls(x.mean(0), np.where(deviation > 1e-12, deviation, np.inf))

    def __call__(self, x: Array) -> Array:
        """The scaled rows of `x`."""
        return (x - self.mean) / self.deviation


@dataclass(frozen=True, slots=True)
class Ridge:
    """y = mean + z w with a penalty on w, z the scaled columns. The penalty minimises the exact leave-one-out error."""

    scaler: Scaler
    weights: Array
    offset: float

    PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

    @classmethod
    def fit(cls, x: Array, y: Array) -> Self:
        """Fit to rows of `x` (n, features) and values `y` (n,)."""
        scaler = Scaler.fit(x)
        z, offset = scaler(x), float(y.mean())
        u, s, vt = np.linalg.svd(z, full_matrices=False)
        projected = u.T @ (y - offset)

        def leave_one_out(penalty: float) -> float:
            shrink = s**2 / (s**2 + penalty)
            leverage = np.minimum((u**2) @ shrink + 1 / len(y), 1 - 1e-6)
            return float(np.mean(((y - offset - u @ (shrink * projected)) / (1 - leverage)) ** 2))

        penalty = min(cls.PENALTIES, key=leave_one_out)
        return cls(scaler, vt.T @ (s / (s**2 + penalty) * projected), offset)

    def predict(self, x: Array) -> Array:
        """Values for the rows of `x`."""
        return self.offset + self.scaler(x) @ self.weights


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A ridge trend plus a Gaussian process with an RBF kernel on the scaled columns.

    Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1, with a trend taken off first.
    Length scale, and noise as a share of the variance, maximise the marginal likelihood over a grid; the variance itself
    has its closed form.
    """

    trend: Ridge
    x: Array
    factor: Array
    alpha: Array
    length: float
    noise: float
    variance: float

    LENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0)
    NOISES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

    @classmethod
    def fit(cls, x: Array, y: Array) -> Self:
        """Fit to rows of `x` (n, features) and values `y` (n,)."""
        with one_thread():
            return cls._fit(x, y)

    @classmethod
    def _fit(cls, x: Array, y: Array) -> Self:
        trend = Ridge.fit(x, y)
        z, rest = trend.scaler(x), y - trend.predict(x)
        some = np.arange(0, len(y), math.ceil(len(y) / GRID_ROWS))
        grid = itertools.product(cls.LENGTHS, cls.NOISES)
        length, noise = max(grid, key=lambda pair: _solve(z[some], rest[some], *pair)[3])
        factor, alpha, variance, _ = _solve(z, rest, length, noise)
        return cls(trend, z, factor, alpha, length, noise, variance)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, noise included, for the rows of `x`."""
        z = self.trend.scaler(x)
        cross = np.exp(-cdist(z, self.x, "sqeuclidean") / max(z.shape[1], 1) / (2 * self.length**2))
        explained = solve_triangular(self.factor, cross.T, lower=True)
        variance = self.variance * np.maximum(1 + self.noise - (explained**2).sum(0), self.noise)
        return self.trend.predict(x) + cross @ self.alpha, np.sqrt(variance)


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Linear algebra on one thread: more only wait for each other on matrices of this size, a hundred times as long when
    other programs hold the cores."""
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _solve(z: Array, rest: Array, length: float, noise: float) -> tuple[Array, Array, float, float]:
    """The Cholesky factor, the weights, the variance in closed form, and the log marginal likelihood but for a constant."""
    squared = cdist(z, z, "sqeuclidean") / max(z.shape[1], 1)
    kernel = np.exp(-squared / (2 * length**2)) + (noise + JITTER) * np.eye(len(rest))
    factor = cho_factor(kernel, lower=True)[0]
    alpha = cho_solve((factor, True), rest)
    variance = max(float(rest @ alpha) / len(rest), 1e-12)
    return factor, alpha, variance, -0.5 * len(rest) * math.log(variance) - float(np.log(np.diag(factor)).sum())
