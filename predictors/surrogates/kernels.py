"""Kernels over groups of columns, the parts that a Gaussian process adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from nas.predictors.surrogates.layout import Layout
from nas.predictors.timings import Array

Form = Literal["linear", "share", "smooth", "rough", "cosine"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel on some groups of columns.

    `linear`: z z', columns standardised. `share`: a a' / (t t'), a the amounts against their means and t a pilot of the
    value: sums of amounts whose error is relative. `smooth` and `rough`: exp(-q / 2) and exp(-sqrt q), q the squared
    distance of standardised columns against `length`^2 times its median. `cosine`: as `rough`, on rows of length 1, which
    for counts of labels compares what share of a graph each label is.
    """

    form: Form
    groups: tuple[str, ...]
    length: float = 1.0


@dataclass(frozen=True, slots=True)
class FittedKernel:
    """A kernel with the scaling of the rows that it was fitted to."""

    kernel: Kernel
    centre: Array
    spread: Array
    unit: float

    @classmethod
    def fit(cls, kernel: Kernel, layout: Layout, features: Array, pilot: Array) -> tuple[Self, Array]:
        """The kernel scaled to rows (n, d) and their pilots (n,), and these rows as `between` takes them."""
        columns = layout.pick(features, *kernel.groups)
        if kernel.form == "share":
            centre, spread = np.zeros(columns.shape[1]), np.abs(columns).mean(0)
        elif kernel.form == "cosine":
            centre, spread = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
        else:
            centre, spread = columns.mean(0), columns.std(0)
        made = cls(kernel, centre, np.where(spread > 1e-9, spread, np.inf), 1.0)
        rows = made.rows(layout, features, pilot)
        if kernel.form in ("linear", "share"):
            unit = float(np.sqrt((rows**2).sum(1).mean()))
        else:
            squared = squared_distances(rows, rows)
            unit = kernel.length * float(np.sqrt(np.median(squared[np.triu_indices(len(rows), 1)])))
        made = cls(kernel, made.centre, made.spread, max(unit, 1e-9))
        return made, made.rows(layout, features, pilot)

    def rows(self, layout: Layout, features: Array, pilot: Array) -> Array:
        """The scaled columns (n, ...) of features (n, d)."""
        columns = (layout.pick(features, *self.kernel.groups) - self.centre) / self.spread
        if self.kernel.form == "share":
            columns = columns / pilot[:, None]
        if self.kernel.form == "cosine":
            columns = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-9)
        return np.asarray(columns / self.unit)

    def between(self, first: Array, second: Array) -> Array:
        """The kernel (n, m) between scaled rows."""
        if self.kernel.form in ("linear", "share"):
            return np.asarray(first @ second.T)
        squared = squared_distances(first, second)
        exponent = np.multiply(squared, -0.5, out=squared) if self.kernel.form == "smooth" else -np.sqrt(squared, out=squared)
        return np.asarray(np.exp(exponent, out=exponent))

    def summed(self, first: Array, second: Array, weights: Array) -> Array:
        """`between` (n, m) scaled rows times `weights` (m,), (n,): where it is itself a product, without making it."""
        if self.kernel.form in ("linear", "share"):
            return np.asarray(first @ (second.T @ weights))
        return np.asarray(self.between(first, second) @ weights)


def squared_distances(first: Array, second: Array) -> Array:
    """Squared Euclidean distances (n, m) of rows, by one matrix product."""
    squared = first @ second.T
    squared *= -2
    squared += (first**2).sum(1)[:, None]
    squared += (second**2).sum(1)
    return np.maximum(squared, 0, out=squared)
