"""Local search: try the neighbours of the best candidate; from a local optimum, those of the next best.

White et al. 2021, "Exploring the Loss Landscape in Neural Architecture Search", arXiv:2005.02960: the form that moves as soon
as a neighbour is better. Going on from the next best instead of from a fresh start makes a proposal a function of the
archive alone.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator, Sequence, Set

from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

STARTUP = 10
CENTRES = 8
PATIENCE = 24


@register(
    "local_search",
    "neighbours of the best candidate, or of the next best where all of these are known",
    single=True,
    revision=2,
)
class LocalSearch(HistoryStrategy):
    """The first `startup` trials are random; then that of the best `CENTRES` candidates which comes first and has new mutants
    left proposes the first of them. Where none has, the proposal is random.

    Each centre has one stream of mutants, which the seed and its digest stand for, and which ends once `PATIENCE` draws in a
    row bring nothing feasible that it has not had. So none is drawn again at each proposal, and a centre whose stream is told
    to its end never has a new mutant again: it is passed over without a draw.
    """

    def __init__(self, problem: Problem, seed: int = 0, startup: int = STARTUP) -> None:
        super().__init__(problem, seed)
        self.startup = startup
        self._centres: list[Trial] = []
        self._streams: dict[str, _Mutants] = {}
        self._spent: set[str] = set()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the candidates in order of their cost, too."""
        super().tell(trials)
        for trial in trials:
            if self._counts(trial):
                bisect.insort(self._centres, trial, key=self._cost)

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        for centre in self._centres[:CENTRES] if len(self.complete) >= self.startup else []:
            found = self._first(centre.architecture, taken)
            if found is not None:
                return found
        return self._legal(self.space.sample, rng, taken)

    def _first(self, centre: Architecture, taken: Set[str]) -> Architecture | None:
        """The first mutant of a centre that is not taken; where all are told, the centre is spent."""
        if centre.digest in self._spent:
            return None
        stream = self._streams.setdefault(centre.digest, _Mutants(self._drawn(centre)))
        found = stream.first(taken, self._digests)
        if found is None and not stream.waiting:
            self._spent.add(centre.digest)
            del self._streams[centre.digest]
        return found

    def _drawn(self, centre: Architecture) -> Iterator[Architecture]:
        """The distinct feasible mutants of a centre, drawn as they are asked for."""
        rng, seen, idle = random.Random(f"{self.seed}:{centre.digest}"), {centre.digest}, 0
        while idle < PATIENCE:
            drawn: Architecture = self.space.mutate(centre, rng)
            idle += 1
            if drawn.digest not in seen:
                seen.add(drawn.digest)
                if self.problem.violation(drawn) == 0.0:
                    idle = 0
                    yield drawn

    def _cost(self, trial: Trial) -> tuple[float, int]:
        return self.problem.costs(trial)[0], trial.number


class _Mutants:
    """A stream of mutants; `waiting` are those drawn and not told when `first` was last called, in the order of the stream."""

    def __init__(self, stream: Iterator[Architecture]) -> None:
        self._stream = stream
        self.waiting: list[Architecture] = []

    def first(self, taken: Set[str], told: Set[str]) -> Architecture | None:
        """The first that is not taken, which what is told always is; None where the stream has no more."""
        self.waiting = [known for known in self.waiting if known.digest not in told]
        for known in self.waiting:
            if known.digest not in taken:
                return known
        for drawn in self._stream:
            if drawn.digest not in told:
                self.waiting.append(drawn)
                if drawn.digest not in taken:
                    return drawn
        return None
