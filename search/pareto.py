"""Pareto dominance on vectors of costs, less being better: sorting into fronts, crowding, hypervolume. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Costs = Sequence[float]


def dominates(first: Costs, second: Costs) -> bool:
    """Whether `first` is nowhere worse than `second` and somewhere better."""
    better = False
    for mine, theirs in zip(first, second, strict=True):
        if mine > theirs:
            return False
        better = better or mine < theirs
    return better


def constrained_dominates(first: Costs, first_violation: float, second: Costs, second_violation: float) -> bool:
    """Deb's constrained domination: the smaller violation wins; among equals (the feasible above all) plain dominance.

    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", definition 1.
    """
    if first_violation != second_violation:
        return first_violation < second_violation
    return dominates(first, second)


def non_dominated_sort(costs: Sequence[Costs], violations: Sequence[float] | None = None) -> list[list[int]]:
    """The indices of `costs`, front by front; every index in exactly one front, in rising order inside it.

    `violations` are 0 for feasible points; without them every point is feasible. O(n^2 m) for n points of m costs.
    """
    beats = _dominance(costs, violations if violations is not None else [0.0] * len(costs))
    beaten_by = beats.sum(axis=0)
    fronts: list[list[int]] = []
    while True:
        front = np.flatnonzero(beaten_by == 0)
        if len(front) == 0:
            return fronts
        fronts.append(front.tolist())
        beaten_by -= beats[front].sum(axis=0)
        beaten_by[front] = -1


def first_front(costs: NDArray[np.float64]) -> list[int]:
    """The rows of finite `costs` (n, m) that no other beats, in rising order; of equal ones the first counts.

    O(n f m) with f rows in the front, so that whole tables of results may be asked.
    """
    kept: list[int] = []
    # In lexicographic order nothing beats what stands before it, so that one look back at the front is enough.
    for place in np.lexsort(costs.T[::-1]):
        if not (costs[kept] <= costs[place]).all(axis=1).any():
            kept.append(int(place))
    return sorted(kept)


def _dominance(costs: Sequence[Costs], violations: Sequence[float]) -> NDArray[np.bool_]:
    """Which point (row) beats which (column) by constrained domination, (n, n)."""
    broken = np.asarray(violations, dtype=float)
    nowhere_worse = np.ones((len(costs), len(costs)), dtype=bool)
    somewhere_better = np.zeros_like(nowhere_worse)
    for column in np.asarray(costs, dtype=float).T:
        nowhere_worse &= column[:, None] <= column
        somewhere_better |= column[:, None] < column
    equal = broken[:, None] == broken
    return np.asarray((broken[:, None] < broken) | (equal & nowhere_worse & somewhere_better))


def crowding_distance(costs: Sequence[Costs]) -> list[float]:
    """For each point of a front the sum over costs of the gap between its neighbours, relative to the front's extent.

    The ends of every cost have infinite distance; a cost that is the same everywhere adds nothing else. Deb et al. 2002,
    section III-B.
    """
    distance = [0.0] * len(costs)
    for axis in range(len(costs[0]) if costs else 0):
        order = sorted(range(len(costs)), key=lambda i: costs[i][axis])
        low, high = costs[order[0]][axis], costs[order[-1]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        if high > low:
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                distance[here] += (costs[after][axis] - costs[before][axis]) / (high - low)
    return distance


def least_crowded(costs: Sequence[Costs], count: int) -> list[int]:
    """The places of at most `count` points of a front with the greatest crowding distances, greatest first, ties in order."""
    distance = crowding_distance(costs)
    return sorted(range(len(costs)), key=lambda i: -distance[i])[:count]


def hypervolume_2d(costs: Sequence[Costs], reference: Costs) -> float:
    """The area that points of two costs dominate below `reference`; points not below it in both costs count nothing."""
    area, height = 0.0, reference[1]
    for x, y in sorted((point[0], point[1]) for point in costs):
        if x < reference[0] and y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area


def hypervolume_3d(costs: Sequence[Costs], reference: Costs) -> float:
    """The volume that points of three costs dominate below `reference`: slices along the third cost, each an area."""
    volume, seen = 0.0, []
    inside = sorted((p for p in costs if all(a < b for a, b in zip(p, reference, strict=True))), key=lambda p: p[2])
    for place, point in enumerate(inside):
        seen.append(point[:2])
        above = inside[place + 1][2] if place + 1 < len(inside) else reference[2]
        if above > point[2]:
            volume += hypervolume_2d(seen, reference) * (above - point[2])
    return volume
