"""Surrogate-guided evolution: fit a model to the archive, evolve thousands inside it, measure the most promising.

Dai et al. 2021, "FBNetV3", arXiv:2006.02049, section 3, in the form of a proposal at a time: the predictor is refitted as the
archive grows. No term for uncertainty: it exploits sooner than `bo`, and gets stuck more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.predictors.surrogates import Layout, surrogate
from nas.predictors.surrogates.layout import CHOICES
from nas.search.encoding import Codes
from nas.search.model import tamed
from nas.search.model_strategy import ModelStrategy
from nas.search.strategy import register
from nas.search.types import Trial

Array = NDArray[np.float64]
MODEL = "gp"


@register("surrogate", "evolution inside a model of the archive; the most promising are evaluated", single=True, revision=3)
class SurrogateEvolution(ModelStrategy):
    """Improves the first objective, by the mean of the registered surrogate `MODEL` on genes."""

    batch_share: ClassVar[int] = 25

    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Fit the model to the first objective."""
        genes = self.encoding.genes(self.encoding.codes([trial.architecture for trial in evidence]))
        layout = Layout(((CHOICES, self.encoding.width),))
        self._model = surrogate(MODEL, layout=layout, seed=int(rng.integers(2**31))).fit(genes, tamed(self.costs(evidence)))

    def estimate(self, members: Sequence[Any]) -> Array:
        """The predicted cost."""
        return -self.value(self.encoding.codes(members))

    def value(self, codes: Codes) -> Array:
        """Minus the predicted cost."""
        return -self._model.latent(self.encoding.genes(codes))[0]

    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """Those of the lowest predicted cost."""
        order = np.argsort(self.estimate(members), kind="stable")
        return [members[i] for i in order[:count]]
