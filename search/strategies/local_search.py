"""Local search: try the neighbours of the best candidate; from a local optimum, those of the next best.

White et al. 2021, "Exploring the Loss Landscape in Neural Architecture Search", arXiv:2005.02960: the form that moves as soon
as a neighbour is better. Going on from the next best instead of from a fresh start makes a proposal a function of the
archive alone.
"""

from __future__ import annotations

import heapq
import random

from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

STARTUP = 10
DRAWS = 24
CENTRES = 8


@register("local_search", "neighbours of the best candidate, or of the next best where all of these are known", single=True)
class LocalSearch(HistoryStrategy):
    """The first `startup` trials are random. A centre is passed over once `DRAWS` of its mutants are known or infeasible."""

    def __init__(self, problem: Problem, seed: int = 0, startup: int = STARTUP) -> None:
        super().__init__(problem, seed)
        self.startup = startup

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        if len(self.complete) >= self.startup:
            for centre in heapq.nsmallest(CENTRES, self.complete, key=self._cost):
                for _ in range(DRAWS):
                    found: Architecture = self.space.mutate(centre.architecture, rng)
                    if found.digest not in taken and self.problem.violation(found) == 0.0:
                        return found
        return self._legal(self.space.sample, rng, taken)

    def _cost(self, trial: Trial) -> tuple[float, int]:
        return self.problem.costs(trial)[0], trial.number
