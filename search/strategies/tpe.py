"""Tree-structured Parzen estimator, by Optuna, over the fixed-length genotype.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; the joint (multivariate) form of Falkner et al. 2018.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from nas.search.strategy import register
from nas.search.surrogate_study import ROW, OptunaStrategy


class RowTpe(TPESampler):
    """Optuna's sampler, reading the genes of the trials as rows of numbers instead of looking up each of them.

    The conversion is Optuna's own affair: should it be renamed, this class is merely as slow as its parent.
    """

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], *_: Any
    ) -> dict[str, NDArray[np.float64]]:
        rows = np.array([trial.user_attrs[ROW] for trial in trials], dtype=float).reshape(len(trials), len(search_space))
        return dict(zip(search_space, np.ascontiguousarray(rows.T), strict=True))


@register("tpe", "Optuna's tree-structured Parzen estimator: models which choices the good candidates share")
class Tpe(OptunaStrategy):
    """Maximises accuracy; needs some 50 evaluations before its model says much."""

    def sampler(self, rng: random.Random, taken: set[str]) -> BaseSampler:
        """TPE over all genes jointly; what is pending plays no part, so that a proposal depends on the told alone."""
        return RowTpe(seed=rng.getrandbits(32), multivariate=True, constant_liar=False, n_startup_trials=0)
