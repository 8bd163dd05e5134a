"""A new target from a handful of measurements, given what surrogates of known targets predict for the same networks."""

from __future__ import annotations

import numpy as np

from nas.errors import UsageError
from nas.predictors.surrogates.base import Surrogate, register_surrogate
from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import PROXIES, Layout
from nas.predictors.surrogates.process import Process
from nas.predictors.surrogates.table import Prices
from nas.predictors.timings import Array

DIRECTIONS = 5
"""In how many principal directions of the known targets measurements are spread."""


@register_surrogate("transfer", "a new target from a few measurements, given logarithms of known targets as proxies")
class TransferSurrogate(Surrogate):
    """The mean of two views of the known targets, whose logarithms are the columns of the group `proxies`.

    One is a Gaussian process that is linear in the logarithms (a ridge whose strength is the most likely one); the other a
    non-negative mixture of the known targets' times, times such a process on the log ratio. Where a layout has no proxies,
    all columns stand for them.
    """

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        known = layout.pick(features, PROXIES)
        self._centre = known.mean(0)
        self._offset = float(np.median(latent))
        self._mixture = Prices.fit(self._times(known), np.exp(latent - self._offset), relative=True)
        mixed = np.log(self._mixture(self._times(known)))
        one, inner = np.ones(len(latent)), Layout(((PROXIES, known.shape[1]),))
        self._plain = Process.fit((Kernel("linear", (PROXIES,)),), inner, known, latent - self._offset, one)
        self._ratio = Process.fit((Kernel("linear", (PROXIES,)),), inner, known, latent - self._offset - mixed, one)

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        known = layout.pick(features, PROXIES)
        one, inner = np.ones(len(known)), Layout(((PROXIES, known.shape[1]),))
        plain, deviation = self._plain.predict(inner, known, one)
        ratio, other = self._ratio.predict(inner, known, one)
        mixed = np.log(self._mixture(self._times(known)))
        return self._offset + (plain + ratio + mixed) / 2, (deviation + other) / 2

    def _times(self, known: Array) -> Array:
        return np.exp(np.clip(known - self._centre, -5, 5))


def spread(known: Array, number: int, taken: int = 0, directions: int = DIRECTIONS) -> Array:
    """Which `number` of the rows (n, targets) to measure: those that, one after another, lie farthest out of what the ones
    before say about the main directions of the known targets (greedy D-optimal design).

    The first `taken` rows count as measured already and are not chosen. Raises UsageError for more rows than there are.
    """
    if number > len(known) - taken:
        raise UsageError(f"cannot choose {number} of {len(known) - taken} networks; ask for fewer, or offer more")
    left, size, _ = np.linalg.svd(known - known.mean(0), full_matrices=False)
    kept = left[:, : min(directions, int((size > 1e-9).sum()))] * np.sqrt(len(known))
    design = np.concatenate([np.ones((len(known), 1)), kept], 1)
    information = np.eye(design.shape[1]) + design[:taken].T @ design[:taken]
    chosen = list(range(taken))
    for _ in range(number):
        reach = np.einsum("ij,ij->i", design @ np.linalg.inv(information), design)
        reach[chosen] = -1
        chosen.append(int(reach.argmax()))
        information += np.outer(design[chosen[-1]], design[chosen[-1]])
    return np.array(chosen[taken:])
