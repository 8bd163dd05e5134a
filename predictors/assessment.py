"""How good predicted latencies are, against measured ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import kendalltau, spearmanr

from nas.errors import UsageError
from nas.predictors.timings import Array


@dataclass(frozen=True, slots=True)
class Assessment:
    """Mean absolute relative error, shares within 5 and 10 %, rank correlations, coverage of the 90 % interval, networks.

    Predictions, or measurements, that are all the same have no order: their rank correlations are 0.
    """

    mape: float
    within_5: float
    within_10: float
    spearman: float
    kendall: float
    coverage_90: float
    n: int

    def to_mapping(self) -> dict[str, float]:
        """The fields by name, fit for JSON."""
        return asdict(self)


def assess(predicted: Array, measured: Array, low: Array, high: Array) -> Assessment:
    """Compare (n,) predictions and their 90 % intervals with (n,) measurements. Raises UsageError for fewer than two."""
    if len(measured) < 2 or predicted.shape != measured.shape:
        raise UsageError(f"an assessment needs at least two networks, got {len(measured)}; hold out more")
    error = np.abs(predicted / measured - 1)
    return Assessment(
        float(error.mean()),
        float((error <= 0.05).mean()),
        float((error <= 0.10).mean()),
        spearman(predicted, measured),
        float(kendalltau(predicted, measured).statistic) if _ordered(predicted, measured) else 0.0,
        float(((low <= measured) & (measured <= high)).mean()),
        len(measured),
    )


def spearman(first: Array, second: Array) -> float:
    """Spearman's rank correlation of two arrays (n,); 0 where all of one are the same."""
    return float(spearmanr(first, second).statistic) if _ordered(first, second) else 0.0


def _ordered(first: Array, second: Array) -> bool:
    return bool(np.ptp(first) > 0 and np.ptp(second) > 0)
