"""What whole-network sizes alone tell: the baseline that every surrogate must beat."""

from __future__ import annotations

import numpy as np

from nas.predictors.regression import Ridge
from nas.predictors.surrogates.base import Surrogate, register_surrogate
from nas.predictors.surrogates.layout import SUMMARY, Layout
from nas.predictors.timings import Array


@register_surrogate("sizes", "linear in whole-network numbers (MACs, parameters, counts): a baseline")
class SizesSurrogate(Surrogate):
    """A ridge on the summary columns alone; its deviation is that of the rows it was fitted to."""

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        x = layout.pick(features, SUMMARY)
        self._model = Ridge.fit(x, latent)
        self._deviation = float(np.sqrt(np.mean((self._model.predict(x) - latent) ** 2)))

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        mean = self._model.predict(layout.pick(features, SUMMARY))
        return mean, np.full(len(mean), self._deviation)
