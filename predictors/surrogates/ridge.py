"""Ridge regression on all columns, its strength by exact leave-one-out error."""

from __future__ import annotations

import numpy as np

from nas.predictors.regression import Ridge
from nas.predictors.surrogates.base import Surrogate, register_surrogate, split_folds
from nas.predictors.surrogates.layout import LABELS, Layout
from nas.predictors.timings import Array

FOLDS = 5


@register_surrogate("ridge", "linear in all columns, strength by leave-one-out error")
class RidgeSurrogate(Surrogate):
    """y = mean + z w, z the standardised columns (labels of Weisfeiler-Lehman aside); its deviation is that of five folds."""

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        x = _columns(layout, features)
        self._model = Ridge.fit(x, latent)
        self._deviation = float(_folded(x, latent, split_folds(len(latent), FOLDS, self.seed))[1][0])

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        mean = self._model.predict(_columns(layout, features))
        return mean, np.full(len(mean), self._deviation)

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate; the deviation is that of all left-out rows."""
        scale, layout = self._ready()
        return _folded(_columns(layout, features), scale.forward(values), folds)


def _folded(x: Array, latent: Array, folds: list[Array]) -> tuple[Array, Array]:
    """Each row's mean from a ridge that left its fold out, and the deviation of all of them."""
    means = np.zeros(len(latent))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(latent)), fold)
        means[fold] = Ridge.fit(x[rest], latent[rest]).predict(x[fold])
    return means, np.full(len(latent), np.sqrt(np.mean((means - latent) ** 2)))


def _columns(layout: Layout, features: Array) -> Array:
    return layout.pick(features, *(name for name in layout.names if name != LABELS))
