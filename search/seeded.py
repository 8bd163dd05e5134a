"""`Seeded`: a strategy whose first proposals are architectures that are known to be good elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from nas.search.strategy import Recommendation, Strategy
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture


class Seeded:
    """Trial `first + i` proposes `seeds[i]` where that is feasible and new; all others are the strategy's own."""

    def __init__(self, strategy: Strategy, problem: Problem, seeds: Sequence[Architecture], first: int) -> None:
        self.strategy, self.problem, self.seeds, self.first = strategy, problem, seeds, first
        self._told: set[str] = set()

    def ask(self, number: int, pending: Sequence[Architecture] = ()) -> Architecture:
        """See `Strategy.ask`."""
        place = number - self.first
        if 0 <= place < len(self.seeds):
            seed = self.seeds[place]
            taken = self._told | {architecture.digest for architecture in pending}
            if seed.digest not in taken and self.problem.violation(seed) == 0.0:
                return seed
        return self.strategy.ask(number, pending)

    def tell(self, trials: Sequence[Trial]) -> None:
        """See `Strategy.tell`."""
        self._told |= {trial.architecture.digest for trial in trials}
        self.strategy.tell(trials)

    def recommend(self) -> Recommendation | None:
        """See `Strategy.recommend`."""
        return self.strategy.recommend()
