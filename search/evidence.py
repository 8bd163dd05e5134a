"""Which trials a model learns from and breeds from: a part of the archive, so that a fit does not grow dear with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.pareto import first_front, least_crowded
from nas.search.types import Problem, Trial, merit

GROWTH = 1.15


def ladder(count: int) -> int:
    """The last step of a geometric ladder up to `count`: what is dear to choose anew is chosen anew at its steps only."""
    step = 2
    while (following := max(step + 1, int(step * GROWTH))) <= count:
        step = following
    return min(step, count)


def best_and_latest(known: Sequence[Trial], best: int, latest: int) -> list[Trial]:
    """The `latest` of some trials in order of number, and the `best` of those before them, still in order."""
    older = sorted(known[:-latest], key=merit)[:best]
    return sorted(older, key=lambda trial: trial.number) + list(known[-latest:])


def front(problem: Problem, known: Sequence[Trial], count: int) -> list[Trial]:
    """The trials that no other beats in all objectives, in order of number; of more than `count` the least crowded.

    Of equal ones the first counts.
    """
    costs = np.array([problem.costs(trial) for trial in known]).reshape(len(known), len(problem.objectives))
    finite = np.flatnonzero(np.isfinite(costs).all(axis=1))
    kept = finite[first_front(costs[finite])].tolist()
    if len(kept) > count:
        kept = [kept[i] for i in least_crowded(costs[kept].tolist(), count)]
    return [known[place] for place in sorted(kept)]


def with_front(problem: Problem, chosen: Sequence[Trial], known: Sequence[Trial], count: int) -> list[Trial]:
    """What was chosen of the known trials, in its order, then where there are several objectives the rest of their front.

    The best by accuracy are one end of a front: without the others a model would forget what is small or quick.
    """
    if len(problem.objectives) == 1:
        return list(chosen)
    numbers = {trial.number for trial in chosen}
    return [*chosen, *(trial for trial in front(problem, known, count) if trial.number not in numbers)]
