"""Which genotypes probably meet the budgets, without decoding and describing them: a linear model of each limited metric."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from nas.search.encoding import Codes, Encoding
from nas.search.evidence import ladder
from nas.search.types import Problem, Trial

Array = NDArray[np.float64]
SAMPLES = 128
RIDGE = 1e-2
SMALLEST_ERROR = 1e-6


class Line(NamedTuple):
    """The model of one limited metric: the logarithm of its limit, weights, and the error of leaving one member out."""

    limit: float
    weights: Array
    error: float


class BudgetModel:
    """Ridge regression of the logarithm of each limited metric on the genes of random members and of trials.

    It only sorts out what is not worth decoding: whoever uses it asks the problem about what is left. The random members are
    drawn by the seed alone, and the trials are those told, so that a resumed search has the same model. Trials crowd at the
    budget, so that the model is best where it decides; it is fitted anew at the steps of a ladder of their number only.
    """

    def __init__(self, problem: Problem, encoding: Encoding, seed: int) -> None:
        self.problem, self.encoding, self.seed = problem, encoding, seed
        self._random: list[Any] = []
        self._lines: list[Line] = []
        self._fitted: tuple[int, ...] | None = None

    def fit(self, evidence: Sequence[Trial]) -> None:
        """Learn from trials, in order of number, what their members are described to take."""
        known = evidence[: ladder(len(evidence))]
        key = tuple(trial.number for trial in known)
        if self.problem.budgets.limits and self._fitted != key:
            self._fitted, self._lines = key, self._fit([trial.architecture for trial in known])

    def excess(self, codes: Codes) -> Array:
        """The sum (n,) of the predicted logarithmic excesses over the budgets; zero where all are met within its error."""
        return np.asarray(sum((np.maximum(over - error, 0.0) for over, error in self._over(codes)), np.zeros(len(codes))))

    def log_probability(self, codes: Codes) -> Array:
        """The logarithm (n,) of the probability that all budgets are met, by normal errors (Gelbart et al. 2014,
        "Bayesian optimization with unknown constraints", arXiv:1403.5607, section 3.2)."""
        return np.asarray(sum((log_ndtr(-over / error) for over, error in self._over(codes)), np.zeros(len(codes))))

    def _over(self, codes: Codes) -> list[tuple[Array, float]]:
        """By limited metric the predicted logarithmic excess (n,), below zero within the budget, and its error."""
        if not self._lines:
            return []
        features = self._features(codes)
        return [(features @ line.weights - line.limit, line.error) for line in self._lines]

    def _features(self, codes: Codes) -> Array:
        return np.concatenate([self.encoding.genes(codes), np.ones((len(codes), 1))], axis=1)

    def _fit(self, told: Sequence[Any]) -> list[Line]:
        if not self._random:
            draws = random.Random(f"{self.seed}:budgets")
            self._random = [self.problem.space.sample(draws) for _ in range(SAMPLES)]
        members = list({member.digest: member for member in (*self._random, *told)}.values())
        budgets = self.problem.budgets
        used = [{name: budgets.used(name, self.problem.cheap(one)) for name in budgets.limits} for one in members]
        features = self._features(self.encoding.codes(members))
        found = []
        for name, limit in budgets.limits.items():
            values = np.array([one[name] for one in used])
            known = np.isfinite(values) & (values > 0.0)
            if known.sum() > 1:
                found.append(Line(float(np.log(limit)), *_ridge(features[known], np.log(values[known]))))
        return found


def _ridge(features: Array, values: Array) -> tuple[Array, float]:
    """Weights of a ridge regression around the mean, and the error of leaving one out (root of the mean square).

    The last feature is the constant. Leaving one out has a closed form: the solved value over the inverse's diagonal.
    """
    mean = float(values.mean())
    inverse = np.linalg.inv(features @ features.T + RIDGE * len(values) * np.eye(len(values)))
    solved = inverse @ (values - mean)
    weights: Array = features.T @ solved
    weights[-1] += mean
    return weights, max(float(np.sqrt(np.mean((solved / np.diag(inverse)) ** 2))), SMALLEST_ERROR)
