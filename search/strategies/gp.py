"""Gaussian process with expected improvement, by Optuna, over the fixed-length genotype.

Snoek et al. 2012, "Practical Bayesian Optimization of Machine Learning Algorithms", arXiv:1206.2944.
"""

from __future__ import annotations

from optuna.samplers import BaseSampler, GPSampler

from nas.search.strategy import register
from nas.search.surrogate_study import OptunaStrategy

# Optuna climbs the acquisition function from 10 points, one gene after the other: with 150 genes that is 2 s a proposal.
LOCAL_SEARCHES = 2


@register("gp", "Optuna's Gaussian process: fewest evaluations, but seconds of thought for each")
class GaussianProcess(OptunaStrategy):
    """Maximises accuracy. The model is fitted anew for every candidate, so it pays where an evaluation is dear."""

    def sampler(self, seed: int) -> BaseSampler:
        """A Gaussian process over all genes, with log expected improvement."""
        sampler = GPSampler(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        sampler._n_local_search = LOCAL_SEARCHES
        return sampler
