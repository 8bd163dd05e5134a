"""Which genotypes probably meet the budgets, without decoding and describing them: a linear model of each limited metric."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from nas.search.encoding import Codes, Encoding
from nas.search.types import Problem

Array = NDArray[np.float64]
SAMPLES = 128
RIDGE = 1e-2


class BudgetModel:
    """Ridge regression of the logarithm of each limited metric on the genes of some random members.

    It only sorts out what is not worth decoding: whoever uses it asks the problem about what is left. The members are drawn by
    the seed alone, so that a resumed search has the same model.
    """

    def __init__(self, problem: Problem, encoding: Encoding, seed: int) -> None:
        self.problem, self.encoding, self.seed = problem, encoding, seed
        self._fitted: list[tuple[float, Array]] | None = None

    def violation(self, codes: Codes) -> Array:
        """The sum (n,) of the predicted logarithmic excesses over the budgets; zero where all are met within its error."""
        if self._fitted is None:
            self._fitted = self._fit() if self.problem.budgets.limits else []
        found = np.zeros(len(codes))
        if self._fitted:
            features = self._features(codes)
            for limit, weights in self._fitted:
                found += np.maximum(features @ weights - limit, 0.0)
        return found

    def _features(self, codes: Codes) -> Array:
        return np.concatenate([self.encoding.genes(codes), np.ones((len(codes), 1))], axis=1)

    def _fit(self) -> list[tuple[float, Array]]:
        draws = random.Random(f"{self.seed}:budgets")
        members = [self.problem.space.sample(draws) for _ in range(SAMPLES)]
        budgets = self.problem.budgets
        used = [{name: budgets.used(name, self.problem.cheap(one)) for name in budgets.limits} for one in members]
        features = self._features(self.encoding.codes(members))
        found = []
        for name, limit in budgets.limits.items():
            values = np.array([one[name] for one in used])
            known = np.isfinite(values) & (values > 0.0)
            if known.sum() > 1:
                weights, error = _ridge(features[known], np.log(values[known]))
                found.append((float(np.log(limit)) + error, weights))
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
    return weights, float(np.sqrt(np.mean((solved / np.diag(inverse)) ** 2)))
