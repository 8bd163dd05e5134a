"""Random search: the baseline that every other strategy must beat."""

from __future__ import annotations

import random

from nas.search.strategy import HistoryStrategy, register
from nas.search_spaces.architecture import Architecture

DRAWS = 32


@register("random", "every choice drawn uniformly; the baseline")
class RandomSearch(HistoryStrategy):
    """Members of the space with every gene drawn uniformly, redrawn until they are feasible.

    After 32 draws the nearest one is mutated into the feasible region, so tight budgets make the draws less uniform.
    """

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        return self._legal(self.space.sample, rng, taken, DRAWS)
