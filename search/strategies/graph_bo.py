"""Bayesian optimisation on graphs: a Gaussian process over genes and Weisfeiler-Lehman features, expected improvement.

Ru et al. 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with Weisfeiler-Lehman Kernels",
arXiv:2006.07556; the genes' kernel beside the graph's, and the marginal likelihood that weighs them, are additions, since
chains of layers differ by place, which a graph kernel forgets. With two objectives the expected hypervolume improvement takes
the place of the expected improvement; with more, a Chebyshev scalarisation drawn for each batch (Knowles 2006, "ParEGO").

The process is one of its own (`nas.search.model`) and not the registered surrogate `gp`: a proposal asks for thousands of
predictions, batches ask for covariances, and the improvement for a deviation without the noise of a new value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.acquisition import expected_hypervolume_improvement, expected_improvement
from nas.search.encoding import BINS, Codes
from nas.search.model import GaussianProcess, Kernel, tamed
from nas.search.model_strategy import ModelStrategy
from nas.search.strategy import register
from nas.search.types import Trial

Array = NDArray[np.float64]
AUGMENT = 0.05
GROWTH = 1.15


@register("bo", "Bayesian optimisation on graphs: Weisfeiler-Lehman and gene kernels, expected (hypervolume) improvement")
class GraphBo(ModelStrategy):
    """One process over genes judges thousands of rows, one over genes and graphs the short list of each batch."""

    _kernels: tuple[tuple[int, ...], list[tuple[Kernel, Kernel]]] | None = None

    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Fit both processes to each objective that is not known beforehand."""
        members = [trial.architecture for trial in evidence]
        genes = self.encoding.genes(self.encoding.codes(members))
        both = self.encoding.features(members)
        costs = self._objectives(evidence, rng)
        count = _checked_at(len(evidence))
        key = tuple(trial.number for trial in evidence[:count])
        if self._kernels is None or self._kernels[0] != key:
            chosen = [(self._process(genes[:count], c), self._process(both[:count], c)) for c in costs[:count].T]
            self._kernels = key, [(quick.kernel, exact.kernel) for quick, exact in chosen]
        pairs = list(zip(costs.T, self._kernels[1], strict=True))
        self._quick = [self._process(genes, column, kernels[0]) for column, kernels in pairs]
        self._exact = [self._process(both, column, kernels[1]) for column, kernels in pairs]
        self._known = costs
        # Under noise the lowest value seen is luck: there the improvement is over what the process believes.
        believed = [float(process.predict(x)[0].min()) for process, x in ((self._quick[0], genes), (self._exact[0], both))]
        self._best = believed if self.problem.repeats else [float(costs[:, 0].min())] * 2

    def _process(self, features: Array, costs: Array, kernel: Kernel | None = None) -> GaussianProcess:
        """A process over genes, or over genes and graphs where the features have both."""
        width = self.encoding.width
        noisy = self.problem.repeats > 0
        if features.shape[1] == width:
            return GaussianProcess([width], np.float32, noisy).fit(features, costs, kernel)
        return GaussianProcess([width, BINS], noisy=noisy).fit(features, costs, kernel)

    def _objectives(self, evidence: Sequence[Trial], rng: np.random.Generator) -> Array:
        """The costs to model (n, 1 or 2), outliers tamed."""
        costs = np.array([self.problem.costs(trial) for trial in evidence])
        costs[:, 0] = self.costs(evidence)
        costs = np.stack([tamed(column) for column in costs.T], axis=1)
        if costs.shape[1] <= 2:
            return costs
        spread = np.maximum(costs.max(axis=0) - costs.min(axis=0), 1e-12)
        weighted = (costs - costs.min(axis=0)) / spread * rng.dirichlet(np.ones(costs.shape[1]))
        return np.asarray(weighted.max(axis=1) + AUGMENT * weighted.sum(axis=1))[:, None]

    def estimate(self, members: Sequence[Any]) -> Array:
        """The posterior mean of the first objective: by genes and graphs, under noise by genes alone, which fit less of it."""
        if self.problem.repeats:
            return self._quick[0].predict(self.encoding.genes(self.encoding.codes(members)))[0]
        return self._exact[0].predict(self.encoding.features(members))[0]

    def value(self, codes: Codes) -> Array:
        """The logarithm of the expected improvement, by genes alone."""
        return self._promise(self._quick, self.encoding.genes(codes), self._best[0])

    def _promise(self, processes: Sequence[GaussianProcess], features: Array, best: float) -> Array:
        predictions = [process.predict(features) for process in processes]
        if len(processes) == 1:
            found = expected_improvement(*predictions[0], best)
        else:
            means, deviations = (np.stack([one[i] for one in predictions], axis=1) for i in (0, 1))
            front = [tuple(row) for row in self._known]
            found = expected_hypervolume_improvement(means, deviations, front, self._known.max(axis=0))
        mean, deviation = predictions[0]
        return np.log(found + 1e-300) - 1e-6 * (mean - best) / deviation

    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """The best by both kernels; in a batch each next one as if those before it were known (Desautels et al. 2014)."""
        features = self.encoding.features(members)
        promise = self._promise(self._exact, features, self._best[1])
        if count == 1:
            return [members[int(np.argmax(promise))]]
        return [members[i] for i in self._spread_out(features, promise, count)]

    def _spread_out(self, features: Array, promise: Array, count: int) -> list[int]:
        """Greedy picks, where what is near a pick loses the part of its promise that the pick will tell."""
        process = self._exact[0]
        covariance = process.covariance(features)
        prior = np.maximum(np.diag(covariance), 1e-18)
        left = covariance.copy()
        chosen: list[int] = []
        for _ in range(min(count, len(promise))):
            kept = np.maximum(np.diag(left), 1e-18) / prior
            worth = promise + 0.5 * np.log(kept)
            worth[chosen] = -np.inf
            best = int(np.argmax(worth))
            chosen.append(best)
            left = left - np.outer(left[best], left[best]) / (left[best, best] + process.noise + 1e-18)
        return chosen


def _checked_at(count: int) -> int:
    """The last step of a geometric ladder: kernels are chosen anew there only, which is dearer than all else together."""
    step = 2
    while (following := max(step + 1, int(step * GROWTH))) <= count:
        step = following
    return min(step, count)
