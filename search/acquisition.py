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
    """The expected growth (m,) of what `front` dominates below `reference`, for independent normal costs.

    `means` and `deviations` are (m, 2) or (m, 3); a deviation of zero is a cost that is known. Given the other costs, the
    growth is a sum of plain improvements of the first over the cells between the points of the front, so its expectation is
    exact; over a second cost that is not known it is a Gauss-Hermite quadrature of `NODES` nodes, and a third and a second
    that are not known are taken to be their means. Emmerich et al. 2006, "Single- and multiobjective evolutionary
    optimization assisted by Gaussian random field metamodels", define the quantity.
    """
    if means.shape[1] == 3:
        return _growth(means[:, 0], deviations[:, 0], means[:, 1:], front, reference)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    known = bool((deviations[:, 1] == 0.0).all())
    pairs = [(0.0, 1.0)] if known else list(zip(nodes, weights / weights.sum(), strict=True))
    edges, heights = _steps(front, reference)
    found = np.zeros(len(means))
    for node, weight in pairs:
        second = means[:, 1] + node * deviations[:, 1]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            width = np.clip(right - np.maximum(second, left), 0.0, None)
            if width.any():
                found += weight * width * expected_improvement(means[:, 0], deviations[:, 0], height)
    return found


def _growth(mean: Array, deviation: Array, others: Array, front: Sequence[Costs], reference: Sequence[float]) -> Array:
    """The expected growth (m,) of a volume, two of whose costs `others` (m, 2) are known.

    The plane of these is cut into cells at the front's points; above a cell the first cost has been pushed down to one
    height. A candidate gains where both others are no less than its own, by the improvement over each height times the area of
    that height.
    """
    points = np.array([point for point in front if all(a < b for a, b in zip(point, reference, strict=True))]).reshape(-1, 3)
    cuts = [np.unique(np.append(points[:, axis], -np.inf)) for axis in (1, 2)]
    covers = (points[:, 1, None, None] <= cuts[0][:, None]) & (points[:, 2, None, None] <= cuts[1])
    reached = np.where(covers, points[:, 0, None, None], reference[0]).min(axis=0, initial=reference[0])
    widths = [
        np.clip(np.append(cut[1:], end) - np.maximum(other[:, None], cut), 0.0, None)
        for cut, other, end in zip(cuts, others.T, reference[1:], strict=True)
    ]
    found = np.zeros(len(mean))
    for height in np.unique(reached):
        area = ((widths[0] @ (reached == height)) * widths[1]).sum(axis=1)
        found += area * expected_improvement(mean, deviation, height)
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
