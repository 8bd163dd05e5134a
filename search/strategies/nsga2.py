"""NSGA-II: generations selected by non-dominated rank and crowding, under constrained domination.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II". Parents are recomputed from the history, so
nothing is lost when a search is killed.
"""

from __future__ import annotations

import bisect
import random

from nas.search.pareto import crowding_distance, non_dominated_sort
from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

POPULATION = 40
CROSSOVER = 0.9
MUTATION = 0.7


@register("nsga2", "NSGA-II: the whole trade-off between the objectives, by rank and crowding")
class Nsga2(HistoryStrategy):
    """Trials `g * population` to `(g + 1) * population - 1` are generation g; generation 0 is random.

    The parents of a generation are the best `population` among the parents and the trials of the one before; their order
    is their fitness: by front, then by falling crowding distance, then by number.
    """

    def __init__(self, problem: Problem, seed: int = 0, population: int = POPULATION) -> None:
        super().__init__(problem, seed)
        self.population = population
        self._parents: dict[int, tuple[int, list[Trial]]] = {}

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        parents = self.parents(number // self.population)
        if len(parents) < 2:
            return self._legal(self.space.sample, rng, taken)
        return self._legal(lambda draws: self._child(parents, draws), rng, taken)

    def parents(self, generation: int) -> list[Trial]:
        """The parents of a generation, fittest first; none for generation 0.

        They are kept until another trial of an earlier generation is told, which with several workers may come late.
        """
        found: list[Trial] = []
        for following in range(1, generation + 1):
            known = bisect.bisect_left(self.history, following * self.population, key=lambda trial: trial.number)
            kept = self._parents.get(following)
            if kept is None or kept[0] != known:
                kept = (known, self._select(found + self._generation(following - 1)))
                self._parents[following] = kept
            found = kept[1]
        return found

    def _generation(self, generation: int) -> list[Trial]:
        first = generation * self.population
        return [trial for trial in self.history if trial.complete and first <= trial.number < first + self.population]

    def _select(self, candidates: list[Trial]) -> list[Trial]:
        costs = [self.problem.costs(trial) for trial in candidates]
        violations = [self.problem.budgets.violation(trial.metrics) for trial in candidates]
        chosen: list[Trial] = []
        for front in non_dominated_sort(costs, violations):
            crowding = dict(zip(front, crowding_distance([costs[i] for i in front]), strict=True))
            ordered = sorted(front, key=lambda i: (-crowding[i], candidates[i].number))
            chosen.extend(candidates[i] for i in ordered)
            if len(chosen) >= self.population:
                break
        return chosen[: self.population]

    def _child(self, parents: list[Trial], rng: random.Random) -> Architecture:
        child = self._winner(parents, rng)
        crossed = rng.random() < CROSSOVER
        if crossed:
            child = self.space.crossover(child, self._winner(parents, rng), rng)
        if not crossed or rng.random() < MUTATION:
            child = self.space.mutate(child, rng)
        return child

    def _winner(self, parents: list[Trial], rng: random.Random) -> Architecture:
        """The fitter of two: parents are ordered by fitness, so the lower index."""
        return parents[min(rng.randrange(len(parents)), rng.randrange(len(parents)))].architecture
