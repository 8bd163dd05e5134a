"""Ridge regression, small and deterministic, its penalty from a grid."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import threadpoolctl  # type: ignore[import-untyped]

from nas.predictors.timings import Array


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


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Linear algebra on one thread: more only wait for each other on matrices of this size, a hundred times as long when
    other programs hold the cores."""
    return _controller().limit(limits=1, user_api="blas")  # type: ignore[no-any-return]


@cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()
