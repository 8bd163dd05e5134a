"""What a candidate promises, given a prediction of its costs: expected improvement, of one cost or of a hypervolume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.pareto import Costs

Array = NDArray[np.float64]
NODES = 5


def expected_improvement(mean: Array, deviation: Array, best: float | Array) -> Array:
    """The expectation of max(0, best - cost) for normal costs; Jones et al. 1998. All (m,), or broadcast to it."""
    deviation = np.maximum(deviation, 1e-12)
    u = (best - mean) / deviation
    found: Array = deviation * (u * ndtr(u) + np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi))
    return found


def expected_hypervolume_improvement(
    means: Array, deviations: Array, front: Sequence[Costs], reference: Sequence[float]
) -> Array:
    """The expected growth (m,) of the area that `front` dominates below `reference`, for two independent normal costs.

    `means` and `deviations` are (m, 2); a deviation of zero is a cost that is known. Given the second cost, the growth is a
    sum of plain improvements of the first over the steps of the front, so its expectation is exact; over the second it is
    a Gauss-Hermite quadrature of `NODES` nodes. Emmerich et al. 2006, "Single- and multiobjective evolutionary
    optimization assisted by Gaussian random field metamodels", define the quantity.
    """
    edges, heights = _steps(front, reference)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    known = bool((deviations[:, 1] == 0.0).all())
    pairs = [(0.0, 1.0)] if known else list(zip(nodes, weights / weights.sum(), strict=True))
    found = np.zeros(len(means))
    for node, weight in pairs:
        second = means[:, 1] + node * deviations[:, 1]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            width = np.clip(right - np.maximum(second, left), 0.0, None)
            if width.any():
                found += weight * width * expected_improvement(means[:, 0], deviations[:, 0], height)
    return found


def _steps(front: Sequence[Costs], reference: Sequence[float]) -> tuple[list[float], list[float]]:
    """Where the staircase of a front steps along the second cost, and the first cost it has reached from there on."""
    edges, heights, height = [-np.inf], [float(reference[0])], float(reference[0])
    for first, second in sorted(((c[0], c[1]) for c in front), key=lambda c: (c[1], c[0])):
        if first < height and second < reference[1]:
            edges.append(float(second))
            heights.append(float(first))
            height = first
    return [*edges, float(reference[1])], heights
