"""Gaussian process with expected improvement, by Optuna, over the fixed-length genotype.

Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", arXiv:1206.2944. The improvement is
looked for among feasible, new candidates, most of them mutants of the best trials, as in White et al. 2021, "BANANAS",
arXiv:1910.11858, section 4.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler

from nas.search.strategy import register
from nas.search.surrogate_study import OptunaStrategy
from nas.search.types import Trial, merit
from nas.search_spaces.architecture import Architecture

POOL = 48
PARENTS = 8
MUTANTS = 0.75
BEST = 40
LATEST = 60


class PoolGp(GPSampler):
    """Optuna's sampler, choosing among given rows of gene indices.

    Optuna would climb from ten points, one gene after the other, through members that break the budgets: with 150 genes
    that takes 2 s a proposal. Without rows it still does.
    """

    def __init__(self, rows: list[NDArray[np.float64]], seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        self._rows = rows

    def _optimize_acqf(self, acqf: Any, best_params: NDArray[np.float64] | None) -> NDArray[np.float64]:
        if not self._rows:
            return super()._optimize_acqf(acqf, best_params)
        rows = np.stack(self._rows)
        best: NDArray[np.float64] = rows[int(np.argmax(acqf.eval_acqf_no_grad(rows)))]
        return best


@register("gp", "Optuna's Gaussian process with expected improvement over mutants of the best candidates")
class GaussianProcess(OptunaStrategy):
    """Maximises accuracy. The model is fitted anew for every candidate, so it pays where an evaluation is dear."""

    def evidence(self) -> list[Trial]:
        """The best and the latest trials: the time to fit grows with the cube of their number."""
        older = sorted(self.complete[:-LATEST], key=merit)[:BEST]
        return sorted(older, key=lambda trial: trial.number) + self.complete[-LATEST:]

    def sampler(self, rng: random.Random, taken: set[str]) -> BaseSampler:
        """A Gaussian process over all genes, choosing from a pool drawn by `rng`."""
        return PoolGp([self.row(one) for one in self._pool(rng, taken)], rng.getrandbits(32))

    def _pool(self, rng: random.Random, taken: set[str]) -> list[Architecture]:
        """At most `POOL` feasible, new architectures: mutants of the best trials by one or two genes, and random ones."""
        parents = sorted(self.complete, key=merit)[:PARENTS]
        found: dict[str, Architecture] = {}
        for _ in range(2 * POOL):
            if rng.random() < MUTANTS:
                drawn = rng.choice(parents).architecture
                for _ in range(rng.randint(1, 2)):
                    drawn = self.space.mutate(drawn, rng)
            else:
                drawn = self.space.sample(rng)
            if drawn.digest not in taken and self.problem.violation(drawn) == 0.0:
                found[drawn.digest] = drawn
            if len(found) == POOL:
                break
        return list(found.values())
