"""NSGA-III: as NSGA-II, but the last front is thinned along reference directions spread over all trade-offs.

Deb and Jain 2014, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated Sorting
Approach, Part I", algorithms 1 to 4; constraints by constrained domination, as in part II. It pays from three objectives on.
"""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nas.search.pareto import non_dominated_sort
from nas.search.strategies.nsga2 import Nsga2, Parent
from nas.search.strategy import register
from nas.search.types import Trial

Array = NDArray[np.float64]
SMALL = 1e-12


@register("nsga3", "NSGA-III: many objectives, spread along reference directions", revision=2)
class Nsga3(Nsga2):
    """Tournaments are decided by dominance alone; ties between candidates of a direction by a generator that is seeded by the
    trials that compete.
    """

    def _select(self, candidates: list[Trial]) -> list[Parent]:
        if not candidates:
            return []
        costs = np.array([self.problem.costs(trial) for trial in candidates])
        violations = [self.problem.budgets.violation(trial.metrics) for trial in candidates]
        chosen: list[int] = []
        for front in non_dominated_sort([tuple(row) for row in costs], violations):
            room = self.population - len(chosen)
            if len(front) > room:
                rng = random.Random(f"{self.seed}:{candidates[-1].number}:{len(candidates)}")
                front = _spread(costs, chosen, front, room, reference_directions(costs.shape[1], self.population), rng)
            chosen.extend(front)
            if len(chosen) >= self.population:
                break
        return [Parent(candidates[i], tuple(costs[i].tolist()), violations[i]) for i in chosen]


def reference_directions(objectives: int, count: int) -> Array:
    """Points (n, objectives) evenly spread over the simplex: the finest lattice of at most `count`. Das and Dennis 1998."""
    parts = 1
    while objectives > 1 and _lattice_size(objectives, parts + 1) <= count:
        parts += 1
    bars = combinations(range(parts + objectives - 1), objectives - 1)
    rows = [np.diff([-1, *bar, parts + objectives - 1]) - 1 for bar in bars]
    return np.array(rows, dtype=float) / parts


def _lattice_size(objectives: int, parts: int) -> int:
    size = 1
    for step in range(1, objectives):
        size = size * (parts + step) // step
    return size


def normalised(costs: Array) -> Array:
    """Costs (n, m) with the ideal point at 0 and the hyperplane through the extreme points at 1.

    Where the extreme points span no hyperplane, the worst costs take the place of its intercepts.
    """
    moved = costs - costs.min(axis=0)
    weights = np.where(np.eye(costs.shape[1]) > 0, 1.0, 1e-6)
    extremes = moved[[int(np.argmin((moved / weight).max(axis=1))) for weight in weights]]
    worst = np.maximum(moved.max(axis=0), SMALL)
    try:
        intercepts = 1.0 / np.linalg.solve(extremes, np.ones(costs.shape[1]))
    except np.linalg.LinAlgError:
        intercepts = worst
    sound = np.isfinite(intercepts) & (intercepts > SMALL) & (intercepts <= worst * (1.0 + 1e-9))
    return np.asarray(moved / (intercepts if bool(sound.all()) else worst))


def _spread(costs: Array, chosen: list[int], front: list[int], room: int, directions: Array, rng: random.Random) -> list[int]:
    """`room` of the last front: always from the direction with the fewest members, there the nearest if it has none."""
    scaled = normalised(costs[[*chosen, *front]])
    units = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), SMALL)
    along = scaled @ units.T
    distances = np.sqrt(np.maximum((scaled**2).sum(axis=1)[:, None] - along**2, 0.0))
    nearest = distances.argmin(axis=1)
    niche = np.bincount(nearest[: len(chosen)], minlength=len(directions))
    waiting: dict[int, list[tuple[float, int]]] = {}
    for place, index in enumerate(front, len(chosen)):
        waiting.setdefault(int(nearest[place]), []).append((float(distances[place, nearest[place]]), index))
    found: list[int] = []
    while len(found) < room:
        fewest = min(niche[direction] for direction in waiting)
        direction = rng.choice(sorted(d for d in waiting if niche[d] == fewest))
        options = sorted(waiting[direction])
        taken = options[0] if fewest == 0 else rng.choice(options)
        waiting[direction].remove(taken)
        if not waiting[direction]:
            del waiting[direction]
        niche[direction] += 1
        found.append(taken[1])
    return found
