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
from nas.search.encoding import Codes
from nas.search.model import tamed
from nas.search.model_strategy import ModelStrategy
from nas.search.strategy import register
from nas.search.types import Trial

Array = NDArray[np.float64]
OPTIMISM = 0.5
NETWORKS = "boshnas"
"""The registered surrogate that is an ensemble of networks; without a layout it looks at all columns, graphs too."""


@register("bananas", "BANANAS: an ensemble of networks, independent Thompson sampling, batches of ten", single=True, revision=2)
class Bananas(ModelStrategy):
    """One ensemble over genes breeds the short list, one over genes and graphs draws from it. Improves the first objective."""

    least_batch: ClassVar[int] = 10

    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Train both ensembles anew."""
        features, costs = self.encoding.features([trial.architecture for trial in evidence]), tamed(self.costs(evidence))
        self._rng = rng
        seed = int(rng.integers(2**31))
        self._quick = surrogate(NETWORKS, seed=seed).fit(features[:, : self.encoding.width], costs)
        self._exact = surrogate(NETWORKS, seed=seed + 1).fit(features, costs)

    def estimate(self, members: Sequence[Any]) -> Array:
        """The ensemble's mean cost."""
        return self._exact.predict(self.encoding.features(members))[0]

    def value(self, codes: Codes) -> Array:
        """Minus an optimistic cost."""
        mean, deviation = self._quick.predict(self.encoding.genes(codes))
        return OPTIMISM * deviation - mean

    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """Those of the lowest cost in one independent draw each."""
        mean, deviation = self._exact.predict(self.encoding.features(members))
        order = np.argsort(self._rng.normal(mean, deviation), kind="stable")
        return [members[i] for i in order[:count]]
