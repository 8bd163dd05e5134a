"""BANANAS: an ensemble of small networks and independent Thompson sampling over evolved candidates.

White et al. 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search",
arXiv:1910.11858, algorithm 1; genes and Weisfeiler-Lehman counts take the place of its path encoding, which chains of layers
do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.predictors.surrogates import surrogate
from nas.search.encoding import BINS, Codes
from nas.search.model import tamed
from nas.search.model_strategy import ModelStrategy
from nas.search.strategy import register
from nas.search.types import Trial

Array = NDArray[np.float64]
OPTIMISM = 0.5
NETWORKS = "boshnas"
"""The registered surrogate that is an ensemble of networks; without a layout it looks at all columns, graphs too."""


@register(
    "bananas",
    "BANANAS: an ensemble of networks, independent Thompson sampling, batches of ten and more",
    single=True,
    revision=3,
)
class Bananas(ModelStrategy):
    """One ensemble over genes breeds the short list, one over genes and graphs draws from it. Improves the first objective.

    Where genes fill more columns than graphs, the first does both. To fit one takes a second: it learns from fewer trials
    than that of other strategies, and serves a fifth of the archive.
    """

    least_batch: ClassVar[int] = 10
    batch_share: ClassVar[int] = 5
    best: ClassVar[int] = 100
    latest: ClassVar[int] = 100

    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Train the ensembles anew."""
        members, costs = [trial.architecture for trial in evidence], tamed(self.costs(evidence))
        self._rng = rng
        seed = int(rng.integers(2**31))
        self._quick = surrogate(NETWORKS, seed=seed).fit(self._genes(members), costs)
        self._exact = self._quick
        if self._sees_graphs:
            self._exact = surrogate(NETWORKS, seed=seed + 1).fit(self.encoding.features(members), costs)

    def estimate(self, members: Sequence[Any]) -> Array:
        """The ensemble's mean cost."""
        return self._judged(members)[0]

    def value(self, codes: Codes) -> Array:
        """Minus an optimistic cost."""
        mean, deviation = self._quick.predict(self.encoding.genes(codes))
        return OPTIMISM * deviation - mean

    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """Those of the lowest cost in one independent draw each."""
        order = np.argsort(self._rng.normal(*self._judged(members)), kind="stable")
        return [members[i] for i in order[:count]]

    @property
    def _sees_graphs(self) -> bool:
        return self.encoding.width < BINS

    def _genes(self, members: Sequence[Any]) -> Array:
        return self.encoding.genes(self.encoding.codes(members))

    def _judged(self, members: Sequence[Any]) -> tuple[Array, Array]:
        """Mean cost and deviation by the ensemble that draws."""
        return self._exact.predict(self.encoding.features(members) if self._sees_graphs else self._genes(members))
