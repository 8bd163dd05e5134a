"""The error that a perfect surrogate would have, where a table measured the same network more than once.

Two measurements a, b of one network differ by d = |log a - log b|. If their errors are Gaussian, the mean error of one is
the mean of d over the square root of 2; if few measurements are disturbed and then one of the two alone, it is half the mean
of d. The two bound the mean relative error of an oracle, and the share of its predictions within 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.predictors.surrogates.layout import Integers
from nas.predictors.tables.table import Table, Target
from nas.predictors.timings import Array

LEAST_PAIRS = 10
WITHIN = 0.1


@dataclass(frozen=True, slots=True)
class Floor:
    """Bounds of an oracle's mean relative error and of its share within 10 %, and the pairs of measurements behind them."""

    mape: tuple[float, float]
    within_10: tuple[float, float]
    pairs: int


def noise_floor(table: Table, target: Target) -> Floor | None:
    """The floor of a device; None for accuracies, and where fewer than ten pairs of rows are the same network."""
    if target.kind == "accuracy":
        return None
    differences = _differences(table.twins[target.rows], np.log(target.values))
    if len(differences) < LEAST_PAIRS:
        return None
    mean = float(differences.mean())
    gaussian = float((differences / np.sqrt(2) <= WITHIN).mean())
    outliers = 1 - float((differences > WITHIN).mean()) / 2
    return Floor((mean / 2, mean / float(np.sqrt(2))), (min(gaussian, outliers), max(gaussian, outliers)), len(differences))


def _differences(twins: Integers, logs: Array) -> Array:
    """|log a - log b| of rows that are the same network and follow one another."""
    order = np.argsort(twins, kind="stable")
    same = np.diff(twins[order]) == 0
    return np.asarray(np.abs(np.diff(logs[order]))[same])
