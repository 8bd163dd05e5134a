"""NSGA-II: generations selected by non-dominated rank and crowding, under constrained domination.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II". The tournament is that of the authors' code,
which differs from the paper's: by dominance, not by rank. A crowded place in the first front then does not beat a lonely one
behind it that it does not dominate, and a population is far less likely to collapse to one end of the front. Parents are
recomputed from the history, so nothing is lost when a search is killed.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from dataclasses import dataclass

from nas.search.pareto import constrained_dominates, crowding_distance, non_dominated_sort
from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

POPULATION = 40
CROSSOVER = 0.9
MUTATION = 0.58
"""The share of crossed children that mutation changes as well; a child of one parent alone is always changed.

It is what changes where each of n genes mutates with probability 1 / n in nine of ten children, 0.9 (1 - (1 - 1 / n) ** n):
0.58 for 15 genes, 0.57 for 100: the gene's chance is that of Deb et al. 2002, section V, the child's that of pymoo 0.6.2,
which benchmarks/moo.py compares with. The other children are crossings alone, which keep what their parents have found.
"""


@dataclass(frozen=True, slots=True)
class Parent:
    """A survivor with what its tournaments ask of it; without a measure of crowding only dominance counts."""

    trial: Trial
    costs: tuple[float, ...]
    violation: float
    crowding: float = math.inf

    def beats(self, other: Parent) -> bool:
        """Whether the other breaks the budgets more, or equally and is dominated."""
        return constrained_dominates(self.costs, self.violation, other.costs, other.violation)


@register("nsga2", "NSGA-II: the whole trade-off between the objectives, by rank and crowding", revision=2)
class Nsga2(HistoryStrategy):
    """Trials `g * population` to `(g + 1) * population - 1` are generation g; generation 0 is random.

    The parents of a generation are the best `population` among the parents and the trials of the one before: by front, and
    where a front does not fit by falling crowding distance, then by number.
    """

    def __init__(self, problem: Problem, seed: int = 0, population: int = POPULATION) -> None:
        super().__init__(problem, seed)
        self.population = population
        self._parents: dict[int, tuple[int, list[Parent]]] = {}
        self._rounds: dict[tuple[int, int, int], list[int]] = {}

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        generation, place = divmod(number, self.population)
        parents = self._survivors(generation)
        if len(parents) < 2:
            return self._legal(self.space.sample, rng, taken)
        matings = itertools.count(place // 2, self.population)
        return self._legal(lambda draws: self._child(parents, generation, next(matings), place % 2 == 1, draws), rng, taken)

    def parents(self, generation: int) -> list[Trial]:
        """The parents of a generation; none for generation 0."""
        return [parent.trial for parent in self._survivors(generation)]

    def _survivors(self, generation: int) -> list[Parent]:
        """They are kept until another trial of an earlier generation is told, which with several workers may come late."""
        first = generation
        while first > 0 and self._parents.get(first, (-1,))[0] != self._known(first):
            first -= 1
        for following in range(first + 1, generation + 1):
            before = [parent.trial for parent in self._kept(following - 1)]
            selected = self._select(before + self._generation(following - 1))
            self._parents[following] = self._known(following), selected
        return self._kept(generation)

    def _kept(self, generation: int) -> list[Parent]:
        return self._parents[generation][1] if generation else []

    def _known(self, generation: int) -> int:
        """How many trials of earlier generations have been told."""
        return bisect.bisect_left(self.history, generation * self.population, key=lambda trial: trial.number)

    def _generation(self, generation: int) -> list[Trial]:
        return [trial for trial in self.history[self._known(generation) : self._known(generation + 1)] if trial.complete]

    def _select(self, candidates: list[Trial]) -> list[Parent]:
        costs = [self.problem.costs(trial) for trial in candidates]
        violations = [self.problem.budgets.violation(trial.metrics) for trial in candidates]
        chosen: list[Parent] = []
        for front in non_dominated_sort(costs, violations):
            crowding = dict(zip(front, crowding_distance([costs[i] for i in front]), strict=True))
            ordered = sorted(front, key=lambda i: (-crowding[i], candidates[i].number))
            chosen.extend(Parent(candidates[i], costs[i], violations[i], crowding[i]) for i in ordered)
            if len(chosen) >= self.population:
                break
        return chosen[: self.population]

    def _child(self, parents: list[Parent], generation: int, mating: int, sibling: bool, draws: random.Random) -> Architecture:
        """The first child of a mating, or its sibling, which takes from each parent what the first does not."""
        coins = random.Random(f"{self.seed}:{generation}:{mating}")
        pair = [self._winner(parents, generation, 2 * mating), self._winner(parents, generation, 2 * mating + 1)]
        first, second = reversed(pair) if sibling else pair
        crossed = coins.random() < CROSSOVER
        child: Architecture = self.space.crossover(first, second, coins) if crossed else first
        if not crossed or draws.random() < MUTATION:
            child = self.space.mutate(child, draws)
        return child

    def _winner(self, parents: list[Parent], generation: int, tournament: int) -> Architecture:
        """The winner of two: by constrained dominance, else the less crowded, else the first."""
        first, second = (self._entrant(parents, generation, place) for place in (2 * tournament, 2 * tournament + 1))
        if second.beats(first) or (not first.beats(second) and second.crowding > first.crowding):
            return second.trial.architecture
        return first.trial.architecture

    def _entrant(self, parents: list[Parent], generation: int, place: int) -> Parent:
        """Who enters the tournaments at a place: each parent once in a round, in a new order for every round."""
        turn, place = divmod(place, len(parents))
        key = (generation, turn, len(parents))
        if key not in self._rounds:
            order = list(range(len(parents)))
            random.Random(f"{self.seed}:{generation}:{turn}:round").shuffle(order)
            self._rounds[key] = order
        return parents[self._rounds[key][place]]
