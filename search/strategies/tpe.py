"""Tree-structured Parzen estimator, by Optuna, over the fixed-length genotype.

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; the joint (multivariate) form of Falkner et al. 2018.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from nas.search.evidence import best_and_latest
from nas.search.strategy import register
from nas.search.surrogate_study import ROW, Asked, OptunaStrategy
from nas.search.types import Trial

CANDIDATES = 24
MORE = 8
BEST = 100
LATEST = 150


class RowTpe(TPESampler):
    """Optuna's sampler, reading the genes of the trials as rows of numbers instead of looking up each of them.

    It keeps everything it compared, best first, in `ranked`. Both methods are Optuna's own affair: should they be renamed,
    this class is merely as slow as its parent and ranks nothing.
    """

    ranked: NDArray[np.float64] | None = None

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], *_: Any
    ) -> dict[str, NDArray[np.float64]]:
        rows = np.array([trial.user_attrs[ROW] for trial in trials], dtype=float).reshape(len(trials), len(search_space))
        return dict(zip(search_space, np.ascontiguousarray(rows.T), strict=True))

    def _compute_acquisition_func(self, samples: dict[str, NDArray[Any]], *estimators: Any) -> NDArray[np.float64]:
        values: NDArray[np.float64] = super()._compute_acquisition_func(samples, *estimators)
        self.ranked = np.stack(list(samples.values()), axis=1)[np.argsort(-values, kind="stable")]
        return values


@register("tpe", "Optuna's tree-structured Parzen estimator: models which choices the good candidates share", single=True)
class Tpe(OptunaStrategy):
    """Maximises accuracy; needs some 50 evaluations before its model says much.

    A model of many genes takes 20 ms to build, so that later one serves a batch of trials; it knows the `BEST` and the
    `LATEST` trials, and Optuna calls at most 25 of these good in any case.
    """

    share: ClassVar[int | None] = 50

    def evidence(self, known: list[Trial]) -> list[Trial]:
        """The best and the latest trials."""
        return best_and_latest(known, BEST, LATEST)

    def sampler(self, asked: Asked) -> BaseSampler:
        """TPE over all genes jointly; what is pending plays no part, so that a proposal depends on the told alone."""
        compared = CANDIDATES if asked.count == 1 else CANDIDATES + MORE * asked.count
        return RowTpe(
            seed=asked.rng.getrandbits(32),
            multivariate=True,
            constant_liar=False,
            n_startup_trials=0,
            n_ei_candidates=compared,
        )

    def ranked(self, sampler: BaseSampler) -> list[NDArray[np.float64]]:
        """What the sampler compared."""
        return list(sampler.ranked) if isinstance(sampler, RowTpe) and sampler.ranked is not None else []
