"""Regularised evolution: tournaments in a population that forgets its oldest members, however good they were.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", arXiv:1802.01548, algorithm 1. The
crossover is an addition, used for `crossover` of the children.
"""

from __future__ import annotations

import random

from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem, Trial, merit
from nas.search_spaces.architecture import Architecture

POPULATION = 40
TOURNAMENT = 10
CROSSOVER = 0.25


@register(
    "evolution", "regularised (aging) evolution: mutate the winner of a tournament among the latest candidates", single=True
)
class RegularisedEvolution(HistoryStrategy):
    """The population is the last `population` feasible, complete trials; until it is full, draws are random.

    A tournament takes the best of `tournament` members by accuracy, then loss, latency and number.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        population: int = POPULATION,
        tournament: int = TOURNAMENT,
        crossover: float = CROSSOVER,
    ) -> None:
        super().__init__(problem, seed)
        self.population, self.tournament, self.crossover = population, tournament, crossover

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        if len(self.complete) < self.population:
            return self._legal(self.space.sample, rng, taken)
        return self._legal(self._child, rng, taken)

    def _child(self, rng: random.Random) -> Architecture:
        alive = self.complete[-self.population :]
        parent = self._winner(alive, rng)
        if rng.random() < self.crossover:
            parent = self.space.crossover(parent, self._winner(alive, rng), rng)
        return self.space.mutate(parent, rng)

    def _winner(self, alive: list[Trial], rng: random.Random) -> Architecture:
        return min(rng.sample(alive, min(self.tournament, len(alive))), key=merit).architecture
