"""On which scale a surrogate works: what it is fitted to is a monotone function of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy.stats import norm, rankdata

from nas.errors import UsageError
from nas.predictors.timings import Array

ScaleName = Literal["linear", "log", "rank"]
SCALES: tuple[ScaleName, ...] = ("linear", "log", "rank")
TAIL = 0.1
"""The share of the values that says how the rank scale goes on beyond the last of them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The values as they are, their logarithms (times), or their normal scores (accuracies, whose spread is all at one end).

    The rank scale maps the i-th smallest of n values to the normal quantile of (i - 1/2) / n, linearly between them and, with
    the slope of the outer tenth, beyond.
    """

    name: ScaleName
    knots: Array
    values: Array

    @classmethod
    def fit(cls, name: ScaleName, values: Array) -> Self:
        """The scale of values (n,). Raises UsageError for an unknown name, and for logarithms of what is not positive."""
        if name not in SCALES:
            raise UsageError(f"a scale is one of {', '.join(SCALES)}, got {name!r}")
        if name == "log" and not (values > 0).all():
            raise UsageError(f"the log scale needs positive values, got {values.min():g}; take the linear scale")
        if name != "rank" or np.ptp(values) == 0:
            return cls("linear" if name == "rank" else name, np.zeros(0), np.zeros(0))
        scores = norm.ppf((rankdata(values) - 0.5) / len(values))
        distinct, first = np.unique(values, return_index=True)
        return cls(name, *_with_tails(scores[first], distinct))

    def forward(self, values: Array) -> Array:
        """Values (n,) on the scale."""
        if self.name == "log":
            return np.asarray(np.log(values))
        return np.interp(values, self.values, self.knots) if self.name == "rank" else values

    def backward(self, latent: Array) -> Array:
        """What lies at places (n,) of the scale."""
        if self.name == "log":
            return np.asarray(np.exp(latent))
        return np.interp(latent, self.knots, self.values) if self.name == "rank" else latent


def _with_tails(scores: Array, values: Array) -> tuple[Array, Array]:
    """Scores and values with one point far beyond each end, in the direction of the outer values."""
    part = max(1, int(TAIL * len(values)))
    far = 20.0
    low = (values[part] - values[0]) / (scores[part] - scores[0])
    high = (values[-1] - values[-1 - part]) / (scores[-1] - scores[-1 - part])
    ends = np.array([scores[0] - far, scores[-1] + far])
    beyond = np.array([values[0] - far * low, values[-1] + far * high])
    return np.concatenate([ends[:1], scores, ends[1:]]), np.concatenate([beyond[:1], values, beyond[1:]])
