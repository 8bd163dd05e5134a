"""Bayesian optimisation on graphs: a Gaussian process over genes and Weisfeiler-Lehman features, expected improvement.

Ru et al. 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with Weisfeiler-Lehman Kernels",
arXiv:2006.07556; the genes' kernel beside the graph's, and the marginal likelihood that weighs them, are additions, since
chains of layers differ by place, which a graph kernel forgets. With two or three objectives the expected hypervolume
improvement takes the place of the expected improvement; with more, a Chebyshev scalarisation drawn for each batch (Knowles
2006, "ParEGO").

A process is sure of itself where its kernel is wrong: a search that has found nothing better for long believes every other
trial's deviations to be several times wider, so that it looks elsewhere (a schedule of the exploration's weight, as Srinivas
et al. 2010, "Gaussian process optimization in the bandit setting", arXiv:0912.3995, have it grow; here it is on and off).

The process is one of its own (`nas.search.model`) and not the registered surrogate `gp`: a proposal asks for thousands of
predictions, batches ask for covariances, and the improvement for a deviation without the noise of a new value.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.search.acquisition import expected_hypervolume_improvement, expected_improvement
from nas.search.encoding import BINS, Codes
from nas.search.evidence import ladder
from nas.search.model import GaussianProcess, Kernel, tamed
from nas.search.model_strategy import ModelStrategy
from nas.search.pareto import first_front, least_crowded
from nas.search.strategy import register
from nas.search.types import MAXIMISED, Trial

Array = NDArray[np.float64]
AUGMENT = 0.05
BEYOND = 0.1
DRAWN = 64
EXACT = 3
THIN = 24
STALE = 20
STALE_SHARE = 5
BOLDNESS = 8.0


@register(
    "bo",
    "Bayesian optimisation on graphs: Weisfeiler-Lehman and gene kernels, expected (hypervolume) improvement",
    revision=3,
)
class GraphBo(ModelStrategy):
    """One process over genes judges thousands of rows, one over genes and graphs the short list of each batch."""

    _kernels: tuple[tuple[int, ...], list[tuple[Kernel, Kernel]]] | None = None
    _boldness = 1.0

    def _make_plan(self, known: Sequence[Trial], start: int, size: int, told: set[str]) -> list[Any]:
        self._boldness = BOLDNESS if start // size % 2 and self._stale(known) else 1.0
        return super()._make_plan(known, start, size, told)

    def _stale(self, known: Sequence[Trial]) -> bool:
        """Whether the last many of the trials, a fifth of them at least, have not improved the only objective."""
        if len(self.problem.objectives) > 1 or not known:
            return False
        best = int(np.argmin(self.costs(known)))
        return len(known) - 1 - best >= max(STALE, len(known) // STALE_SHARE)

    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Fit both processes to each objective; of one that describing a member tells, genes alone, to breed by."""
        members = [trial.architecture for trial in evidence]
        genes = self.encoding.genes(self.encoding.codes(members))
        both = self.encoding.features(members)
        costs = self._objectives(evidence, rng)
        self._told = costs.shape[1] > 1 and bool((self._others(members) == costs[:, 1:]).all())
        count = ladder(len(evidence))
        key = tuple(trial.number for trial in evidence[:count])
        if self._kernels is None or self._kernels[0] != key:
            # Of these trials alone, whatever has come in since: a search that is resumed must choose the same.
            first = self._objectives(evidence[:count], np.random.default_rng([self.seed, count]))
            chosen = [(self._process(genes[:count], c), self._process(both[:count], c)) for c in first.T]
            self._kernels = key, [(quick.kernel, exact.kernel) for quick, exact in chosen]
        pairs = list(zip(costs.T, self._kernels[1], strict=True))
        self._quick = [self._process(genes, column, kernels[0]) for column, kernels in pairs]
        self._exact = [self._process(both, column, kernels[1]) for column, kernels in (pairs[:1] if self._told else pairs)]
        self._known = costs
        self._front = costs[first_front(costs)] if costs.shape[1] > 1 else costs[:0]
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
        """The costs to model (n, 1 to 3), outliers of the first tamed; of the others they may be an end of the front."""
        costs = np.array([self.problem.costs(trial) for trial in evidence])
        costs[:, 0] = tamed(self.costs(evidence))
        if costs.shape[1] <= EXACT:
            return costs
        costs = np.stack([tamed(column) for column in costs.T], axis=1)
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

    def _worth(self, codes: Codes) -> Array:
        """The logarithm of the improvement times the probability that the budgets are met."""
        return self.value(codes) + self.budget_model.log_probability(codes)

    def _promise(
        self, processes: Sequence[GaussianProcess], features: Array, best: float, others: Array | None = None
    ) -> Array:
        """The logarithm of the improvement (n,); `others` are the other objectives (n, 1 or 2) where they are known."""
        mean, deviation = processes[0].predict(features)
        deviation = deviation * self._boldness
        if len(processes) == 1 and others is None:
            found = expected_improvement(mean, deviation, best)
        else:
            doubts = np.zeros_like(others) if others is not None else None
            if others is None or doubts is None:
                told = [process.predict(features) for process in processes[1:]]
                others, doubts = (np.stack(column, axis=1) for column in zip(*told, strict=True))
            means, deviations = np.column_stack([mean, others]), np.column_stack([deviation, doubts])
            # Thousands of rows of genes are judged by a part of a front of three objectives, the short list by all of it.
            front = (
                self._front
                if processes is self._exact or len(processes) < EXACT
                else self._front[least_crowded(self._front.tolist(), THIN)]
            )
            found = expected_hypervolume_improvement(means, deviations, front.tolist(), self._reference())
        return np.log(found + 1e-300) - 1e-6 * (mean - best) / deviation

    def _reference(self) -> tuple[float, ...]:
        """The corner that hypervolumes are measured from: a first cost that every other random member has, and more than any
        other costs.

        From the worst first cost, what is bad and cheap would promise most. From the largest second cost seen, no member
        beyond it would promise anything, so that the front could not grow there.
        """
        ordinary = float(np.median([self.problem.costs(trial)[0] for trial in self.complete[: self.startup]]))
        furthest = self._known[:, 1:].max(axis=0)
        ends = np.maximum(furthest, self._furthest) if self._told else furthest + BEYOND * np.ptp(self._known[:, 1:], axis=0)
        return ordinary, *ends.tolist()

    @cached_property
    def _furthest(self) -> Array:
        """The largest of the other costs (objectives - 1,) among some eligible random members."""
        draws = random.Random(f"{self.seed}:reference")
        members = [self.space.sample(draws) for _ in range(DRAWN)]
        return self._others([one for one in members if self._eligible(one)]).max(axis=0, initial=-np.inf)

    def _others(self, members: Sequence[Any]) -> Array:
        """The objectives but the first (n, objectives - 1), less being better, as describing members tells them; else NaN."""
        names = self.problem.objectives[1:]
        told = [self.problem.cheap(member) for member in members]
        costs = [[(-1.0 if name in MAXIMISED else 1.0) * cheap.get(name, np.nan) for name in names] for cheap in told]
        return np.array(costs).reshape(len(members), len(names))

    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """The best by both kernels; in a batch each next one as if those before it were known (Desautels et al. 2014)."""
        features = self.encoding.features(members)
        others = self._others(members) if self._told else None
        promise = self._promise(self._exact, features, self._best[1], others)
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
