"""How good predicted latencies are, against measured ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import kendalltau, spearmanr

from nas.errors import UsageError
from nas.predictors.timings import Array


@dataclass(frozen=True, slots=True)
class Assessment:
    """Mean absolute relative error, shares within 5 and 10 %, rank correlations, coverage of the 90 % interval, networks."""

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
        float(spearmanr(predicted, measured).statistic),
        float(kendalltau(predicted, measured).statistic),
        float(((low <= measured) & (measured <= high)).mean()),
        len(measured),
    )
