"""Gradient-boosted trees.

Friedman 2002, Stochastic gradient boosting, Computational Statistics and Data Analysis 38; scikit-learn's
GradientBoostingRegressor. Rows and columns are drawn anew for every split, which costs little accuracy and most of the time.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from nas.predictors.surrogates.base import Surrogate, register_surrogate, split_folds
from nas.predictors.surrogates.layout import LABELS, Layout
from nas.predictors.timings import Array

TREES = 100


@register_surrogate("boosting", "gradient-boosted trees on all columns")
class BoostingSurrogate(Surrogate):
    """Trees of depth 4 on all columns but Weisfeiler-Lehman labels; its deviation is that of two folds."""

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        self._model = boosted(tree_columns(layout, features), latent, self.seed)
        means, _ = self._folded(layout, features, latent, split_folds(len(latent), 2, self.seed))
        self._deviation = max(float(np.sqrt(np.mean((means - latent) ** 2))), 1e-9)

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        mean = self._model.predict(tree_columns(layout, features))
        return mean, np.full(len(mean), self._deviation)

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """As for every surrogate, without the deviation of each part."""
        scale, layout = self._ready()
        return self._folded(layout, features, scale.forward(values), folds)

    def _folded(self, layout: Layout, features: Array, latent: Array, folds: list[Array]) -> tuple[Array, Array]:
        """Each row's mean from trees that left its fold out, and the deviation of all of them."""
        columns, means = tree_columns(layout, features), np.zeros(len(latent))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(latent)), fold)
            means[fold] = boosted(columns[rest], latent[rest], self.seed).predict(columns[fold])
        return means, np.full(len(latent), np.sqrt(np.mean((means - latent) ** 2)))


def boosted(features: Array, latent: Array, seed: int) -> GradientBoostingRegressor:
    """The trees that are fitted to features (n, d) and values (n,)."""
    model = GradientBoostingRegressor(
        n_estimators=TREES, max_depth=4, learning_rate=0.09, subsample=0.5, max_features=0.15, random_state=seed
    )
    return model.fit(features, latent)


def tree_columns(layout: Layout, features: Array) -> Array:
    """The columns (n, ...) that trees look at."""
    return layout.pick(features, *(name for name in layout.names if name != LABELS))
