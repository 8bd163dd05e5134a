"""The Gaussian process that model-based strategies trust: small, exact, chosen by marginal likelihood.

Its interface is that of the accuracy surrogates, `fit(features, values)` and `predict(features) -> mean, deviation`, so that
any of these may take its place; `covariance` is what a batch of proposals needs beyond it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

Array = NDArray[np.float64]
LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
WEIGHTS = (0.2, 0.5, 0.8)
NOISES = (1e-3, 1e-2, 5e-2, 2e-1, 1.0)
NOISY = (0.2, 0.5, 1.0, 2.0)
JUDGED = 60
JUDGED_NOISY = 100
CLIP = 2.5
NORMAL_MAD = 1.4826


class Kernel(NamedTuple):
    """A sum of exponentials of squared distances, one for each block of features, and noise relative to its variance."""

    weights: tuple[float, ...]
    lengths: tuple[float, ...]
    noise: float


class GaussianProcess:
    """Features are `blocks` of so many columns each, with a length scale of their own; distances are relative to their median.

    The kernel of a block is exp(-d^2 / l): for one-hot features that is an exponential of the Hamming distance. Lengths,
    weights and noise are those of the highest marginal likelihood on a grid, judged on at most `JUDGED` of the rows (the last),
    because a fit takes time with the cube of their number. Where values are known to be `noisy`, the grid holds wide noises
    only, and more rows judge: the likelihood of a few noisy values likes to take their noise for structure. Predictions are
    made in `precision`: single is enough to rank by.
    """

    def __init__(self, blocks: Sequence[int], precision: type[np.floating[Any]] = np.float64, noisy: bool = False) -> None:
        self.blocks = tuple(blocks)
        self.precision = precision
        self.noises, self.judged = (NOISY, JUDGED_NOISY) if noisy else (NOISES, JUDGED)
        self._ends = list(itertools.accumulate(blocks))

    def fit(self, features: Array, values: Array, kernel: Kernel | None = None) -> Self:
        """Learn `values` (n,) of `features` (n, width), n >= 2, with a kernel that was chosen before, or choosing one."""
        self._mean, self._spread = float(values.mean()), float(values.std()) or 1.0
        targets = (values - self._mean) / self._spread
        raw = [_distances(part, part) for part in self._split(features)]
        self._scales = [float(np.median(d[d > 1e-9])) if (d > 1e-9).any() else 1.0 for d in raw]
        distances = [d / scale for d, scale in zip(raw, self._scales, strict=True)]
        part = slice(-self.judged, None)
        self.kernel = kernel or _choose([d[part, part] for d in distances], targets[part], self.noises)
        matrix = _covariance(distances, self.kernel) + self.kernel.noise * np.eye(len(targets))
        # The factor's inverse makes every prediction one product of matrices; the noise keeps it well conditioned.
        inverse, _ = lapack.dtrtri(np.linalg.cholesky(matrix), lower=1)
        solved = inverse @ targets
        self._inverse, self._solved = inverse.astype(self.precision), solved.astype(self.precision)
        self._features = features.astype(self.precision)
        self._variance = max(float(solved @ solved) / len(targets), 1e-9)
        return self

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and deviation, both (m,), of the noise-free values of `features` (m, width)."""
        projected = self._project(features)
        mean = projected.T @ self._solved
        variance = np.maximum(1.0 - np.einsum("ij,ij->j", projected, projected).astype(np.float64), 1e-9) * self._variance
        return mean.astype(np.float64) * self._spread + self._mean, np.sqrt(variance) * self._spread

    def covariance(self, features: Array) -> Array:
        """The posterior covariance (m, m) of the noise-free values of `features` (m, width)."""
        projected = self._project(features)
        parts = self._split(features)
        distances = [_distances(part, part) / scale for part, scale in zip(parts, self._scales, strict=True)]
        found: Array = (_covariance(distances, self.kernel) - projected.T @ projected) * self._variance * self._spread**2
        return found

    @property
    def noise(self) -> float:
        """The variance of the noise of one value."""
        return self.kernel.noise * self._variance * self._spread**2

    def _project(self, features: Array) -> Array:
        features = features.astype(self.precision, copy=False)
        pairs = zip(self._split(self._features), self._split(features), self._scales, strict=True)
        between = _covariance([_distances(known, new) / scale for known, new, scale in pairs], self.kernel)
        found: Array = self._inverse @ between
        return found

    def _split(self, features: Array) -> list[Array]:
        return [features[:, end - width : end] for width, end in zip(self.blocks, self._ends, strict=True)]


def _distances(first: Array, second: Array) -> Array:
    """Squared Euclidean distances (n, m)."""
    squares = (first * first).sum(axis=1)[:, None] + (second * second).sum(axis=1)[None]
    return np.maximum(squares - 2.0 * first @ second.T, 0.0)


def _covariance(distances: Sequence[Array], kernel: Kernel) -> Array:
    parts = zip(kernel.weights, kernel.lengths, distances, strict=True)
    return np.asarray(sum(weight * np.exp(-d / length) for weight, length, d in parts if weight > 0.0))


def _choose(distances: Sequence[Array], targets: Array, noises: Sequence[float]) -> Kernel:
    """The kernel of the highest marginal likelihood: each block's length alone, then the weights of blocks, then the noise."""
    alone = []
    for number in range(len(distances)):
        weights = tuple(float(other == number) for other in range(len(distances)))
        tried = [Kernel(weights, (length,) * len(distances), noises[1]) for length in LENGTHS]
        alone.append(max(tried, key=lambda kernel: _likelihood(distances, targets, kernel)))
    lengths = tuple(kernel.lengths[number] for number, kernel in enumerate(alone))
    mixed = [tuple(kernel.weights) for kernel in alone]
    if len(distances) == 2:
        mixed.extend((weight, 1.0 - weight) for weight in WEIGHTS)
    tried = [Kernel(weights, lengths, noise) for weights in mixed for noise in noises]
    return max(tried, key=lambda kernel: _likelihood(distances, targets, kernel))


def _likelihood(distances: Sequence[Array], targets: Array, kernel: Kernel) -> float:
    """The logarithm of the marginal likelihood with the best overall variance, up to a constant."""
    count = len(targets)
    matrix = _covariance(distances, kernel)
    matrix.flat[:: count + 1] += kernel.noise
    factor, failed = lapack.dpotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        return -np.inf
    solved, _ = lapack.dtrtrs(factor, targets, lower=1)
    variance = max(float(solved @ solved) / count, 1e-12)
    return -0.5 * count * float(np.log(variance)) - float(np.log(np.diag(factor)).sum())


def tamed(costs: Array) -> Array:
    """Costs with those far above the median cut off, so that networks that failed to learn do not hide the differences
    between good ones: at 2.5 robust deviations.
    """
    median = float(np.median(costs))
    deviation = NORMAL_MAD * float(np.median(np.abs(costs - median)))
    return np.minimum(costs, median + CLIP * deviation) if deviation > 0.0 else costs
