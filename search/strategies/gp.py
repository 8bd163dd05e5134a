"""Gaussian process with expected improvement, by Optuna, over the fixed-length genotype.

Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", arXiv:1206.2944. The improvement is
looked for among feasible, new candidates, most of them mutants of the best trials, as in White et al. 2021, "BANANAS",
arXiv:1910.11858, section 4.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler

from nas.search.evidence import best_and_latest
from nas.search.strategy import register
from nas.search.surrogate_study import Asked, OptunaStrategy
from nas.search.types import Trial, merit
from nas.search_spaces.architecture import Architecture

POOL = 48
PARENTS = 8
MUTANTS = 0.75
BEST = 40
LATEST = 60


class PoolGp(GPSampler):
    """Optuna's sampler, choosing among given rows of gene indices; it keeps them, best first, in `ranked`.

    Optuna would climb from ten points, one gene after the other, through members that break the budgets: with 150 genes
    that takes 2 s a proposal. Without rows it still does.
    """

    def __init__(self, rows: list[NDArray[np.float64]], seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        self._rows = rows
        self.ranked: list[NDArray[np.float64]] = []

    def _optimize_acqf(self, acqf: Any, best_params: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if not self._rows:
            return super()._optimize_acqf(acqf, best_params)
        rows = np.stack(self._rows)
        self.ranked = list(rows[np.argsort(-acqf.eval_acqf_no_grad(rows), kind="stable")])
        return self.ranked[0]


@register(
    "gp",
    "Optuna's Gaussian process (of the best and latest 100) with expected improvement over mutants of the best",
    single=True,
)
class GaussianProcess(OptunaStrategy):
    """Maximises accuracy. A fit takes 0.2 s, so that later one serves a batch: it pays where an evaluation is dear."""

    share: ClassVar[int | None] = 25

    def evidence(self, known: list[Trial]) -> list[Trial]:
        """The best and the latest trials: the time to fit grows with the cube of their number."""
        return best_and_latest(known, BEST, LATEST)

    def sampler(self, asked: Asked) -> BaseSampler:
        """A Gaussian process over all genes, choosing from a pool drawn by the generator."""
        return PoolGp([self.row(one) for one in self._pool(asked)], asked.rng.getrandbits(32))

    def ranked(self, sampler: BaseSampler) -> list[NDArray[np.float64]]:
        """The pool."""
        return sampler.ranked if isinstance(sampler, PoolGp) else []

    def _pool(self, asked: Asked) -> list[Architecture]:
        """`POOL` feasible, new architectures and as many as are asked for, or fewer: mutants of the best trials by one or two
        genes, and random ones.
        """
        parents = sorted(asked.known, key=merit)[:PARENTS]
        size, rng = POOL + asked.count - 1, asked.rng
        found: dict[str, Architecture] = {}
        for _ in range(2 * size):
            if rng.random() < MUTANTS:
                drawn = rng.choice(parents).architecture
                for _ in range(rng.randint(1, 2)):
                    drawn = self.space.mutate(drawn, rng)
            else:
                drawn = self.space.sample(rng)
            if drawn.digest not in asked.taken and self.problem.violation(drawn) == 0.0:
                found[drawn.digest] = drawn
            if len(found) == size:
                break
        return list(found.values())
