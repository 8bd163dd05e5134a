"""`ModelStrategy`: the shared body of strategies that fit a model to the archive and propose what it finds promising.

Proposals are planned in batches: one candidate each at first, a share of the archive later (`batch_share`), so that what a
candidate costs does not grow with the archive. A plan is a function of the seed, the number of its first trial and the trials
before it.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.predictors.surrogates.base import LEAST_ROWS
from nas.search.batches import Batches
from nas.search.encoding import Codes, Encoding
from nas.search.evidence import best_and_latest, with_front
from nas.search.feasibility import BudgetModel
from nas.search.strategy import HistoryStrategy, Recommendation
from nas.search.surrogate_study import first_cost
from nas.search.types import Problem, Trial, merit

Array = NDArray[np.float64]
STARTUP = 10
BATCH_SHARE = 50
BEST = 150
LATEST = 150
FRONT = 100
PARENTS = 20
RANDOM = 500
CHILDREN = 300
ROUNDS = 5
BLOCKS = 8
BLOCK = 150
SHORTLIST = 32
LOOKED = 4
REPEAT_EVERY = 10
REPEATED_OF = 5


class ModelStrategy(HistoryStrategy):
    """The first `startup` trials are random; then a subclass fits a model and picks from a short list of candidates.

    In a dense space the short list is bred inside the model: rows of genes are mutated and crossed for some generations, those
    that the subclass values most and that a linear model of the budgets thinks feasible are decoded. In a table of scattered
    rows it is the best of many members drawn at random and of the neighbours of the best trials.
    """

    least_batch: ClassVar[int] = 1
    batch_share: ClassVar[int] = BATCH_SHARE
    best: ClassVar[int] = BEST
    latest: ClassVar[int] = LATEST

    def __init__(self, problem: Problem, seed: int = 0, startup: int = STARTUP) -> None:
        super().__init__(problem, seed)
        self.startup = startup
        self.encoding = Encoding(problem.space)
        self.budget_model = BudgetModel(problem, self.encoding, seed)
        self._batches = Batches(self.batch_share, self.least_batch)
        self._blocks: dict[int, list[Any]] = {}
        self._plan: tuple[tuple[int, int], list[Any]] | None = None

    @abstractmethod
    def fit(self, evidence: Sequence[Trial], rng: np.random.Generator) -> None:
        """Learn from trials, at least `LEAST_ROWS`, in order of number."""

    @abstractmethod
    def value(self, codes: Codes) -> Array:
        """What rows of genes promise (n,), more being better."""

    def improved(self, codes: Codes) -> Codes:
        """Rows that a subclass derives from those it values most, which come first; none here."""
        return codes[:0]

    @abstractmethod
    def pick(self, members: Sequence[Any], count: int) -> list[Any]:
        """At most `count` of the short list, best first."""

    @abstractmethod
    def estimate(self, members: Sequence[Any]) -> Array:
        """The first objective (n,) of members by the model, less being better."""

    def costs(self, evidence: Sequence[Trial]) -> Array:
        """The first objective of trials (n,), less being better."""
        return np.array([first_cost(self.problem, trial) for trial in evidence])

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Any:
        if len(self.complete) < self.startup or not self.encoding.active:
            return self._legal(self.space.sample, rng, taken)
        again = self._again(number) if self.problem.repeats else None
        if again is not None:
            return again
        start, size = self._batches.of(number)
        for member in self._planned(start, size, taken):
            if member.digest not in taken:
                return member
        parents = self.parents(self.complete)
        return self._legal(lambda draws: self.space.mutate(draws.choice(parents).architecture, draws), rng, taken)

    def recommend(self) -> Recommendation | None:
        """The evaluated architecture with the lowest cost by the model, which averages over what was seen around it."""
        ranked = self._ranked()
        return ranked[0] if ranked else super().recommend()

    def _ranked(self) -> list[Recommendation]:
        """The evaluated architectures, best first by the model; nothing without a model."""
        if len(self.complete) < max(LEAST_ROWS, self.startup):
            return []
        evidence = self.evidence(self.complete)
        self.fit(evidence, np.random.default_rng([self.seed, len(self.complete)]))
        seen = Counter(trial.architecture.digest for trial in self.complete)
        members = list({trial.architecture.digest: trial.architecture for trial in evidence}.values())
        order = np.argsort(self.estimate(members), kind="stable")
        return [Recommendation(members[i], seen[members[i].digest]) for i in order]

    def _again(self, number: int) -> Any | None:
        """The best of the few that the model likes most and that may be repeated, for every `REPEAT_EVERY`-th trial."""
        if number % REPEAT_EVERY:
            return None
        likely = self._ranked()[:REPEATED_OF]
        return next((one.architecture for one in likely if one.seen <= self.problem.repeats), None)

    def _planned(self, start: int, size: int, taken: set[str]) -> list[Any]:
        """The plan of a batch; made anew where a trial of an earlier number has come in since."""
        known = [trial for trial in self.complete if trial.number < start] if size > 1 else self.complete
        key = (start, len(known))
        if self._plan is None or self._plan[0] != key or size == 1:
            told = self._digests if size == 1 else {trial.architecture.digest for trial in self.history if trial.number < start}
            self._plan = (key, self._make_plan(known, start, size, told if size > 1 else taken))
        return self._plan[1]

    def _make_plan(self, known: Sequence[Trial], start: int, size: int, told: set[str]) -> list[Any]:
        if len(known) < LEAST_ROWS:
            return []
        rng = np.random.default_rng([self.seed, start])
        evidence = self.evidence(known)
        self.fit(evidence, rng)
        parents = self.parents(known)
        limit = SHORTLIST + 2 * size
        if self.space.dense:
            self.budget_model.fit(evidence)
            shortlist = self._bred(parents, told, limit, rng)
        else:
            shortlist = self._drawn(parents, told, limit, start)
        return self.pick(shortlist, size) if shortlist else []

    def evidence(self, known: Sequence[Trial]) -> list[Trial]:
        """The best and the latest trials and the front, in order of number: what a model takes to fit must not grow with the
        archive.
        """
        chosen = with_front(self.problem, best_and_latest(known, self.best, self.latest), known, FRONT)
        return sorted(chosen, key=lambda trial: trial.number)

    def parents(self, known: Sequence[Trial]) -> list[Trial]:
        """What candidates are bred from: the best trials, and the front."""
        return with_front(self.problem, sorted(known, key=merit)[:PARENTS], known, PARENTS)

    def _bred(self, parents: Sequence[Trial], told: set[str], limit: int, rng: np.random.Generator) -> list[Any]:
        """New eligible members that evolved inside the model."""
        elite = self.encoding.codes([trial.architecture for trial in parents])
        pool = np.concatenate([rng.integers(0, self.encoding.counts, (RANDOM, elite.shape[1])), self._children(elite, rng)])
        worth = self._worth(pool)
        for _ in range(ROUNDS - 1):
            best = pool[_leading(worth, 2 * PARENTS)]
            children = self._children(best, rng)
            pool, worth = np.concatenate([pool, children]), np.concatenate([worth, self._worth(children)])
        improved = self.improved(pool[np.argsort(-worth, kind="stable")])
        if len(improved):
            pool, worth = np.concatenate([pool, improved]), np.concatenate([worth, self._worth(improved)])
        found: dict[str, Any] = {}
        looked: set[bytes] = set()
        for code in pool[np.argsort(-worth, kind="stable")]:
            key = code.tobytes()
            if key in looked:
                continue
            looked.add(key)
            member = self.encoding.decode(code)
            if member.digest not in told and self._eligible(member):
                found[member.digest] = member
            if len(found) == limit or len(looked) == LOOKED * limit:
                break
        return list(found.values())

    def _eligible(self, member: Any) -> bool:
        """Whether a member is feasible, and lacks none of the objectives that describing it tells: else it would fail."""
        cheap = self.problem.cheap(member)
        known = all(math.isfinite(cheap[name]) for name in self.problem.objectives if name in cheap)
        return known and self.problem.violation(member) == 0.0

    def _worth(self, codes: Codes) -> Array:
        """The value of codes, or where the budgets are probably broken, by how much, below all values."""
        value, excess = self.value(codes), self.budget_model.excess(codes)
        return np.where(excess > 0.0, value.min() - 1.0 - excess, value)

    def _children(self, parents: Codes, rng: np.random.Generator) -> Codes:
        """Mutants in one gene or a few, half of them of a cross of two parents."""
        count, width = CHILDREN, parents.shape[1]
        first, second = parents[rng.integers(0, len(parents), count)], parents[rng.integers(0, len(parents), count)]
        crossed = (rng.random((count, 1)) < 0.5) & (rng.random((count, width)) < 0.5)
        children = np.where(crossed, second, first)
        rate = np.array([1.0, 1.0, 2.0, 3.0])[rng.integers(0, 4, count)][:, None] / width
        changed = rng.random((count, width)) < rate
        changed[np.arange(count), rng.integers(0, width, count)] = True
        shift = rng.integers(1, np.maximum(self.encoding.counts, 2), (count, width))
        return np.where(changed, (children + shift) % self.encoding.counts, children)

    def _drawn(self, parents: Sequence[Trial], told: set[str], limit: int, number: int) -> list[Any]:
        """The most valuable of many new eligible members drawn at random and of mutants of the parents."""
        draws = random.Random(f"{self.seed}:{number}:plan")
        members = [member for block in range(max(0, number - BLOCKS + 1), number + 1) for member in self._block(block)]
        mutants = [self.space.mutate(trial.architecture, draws) for trial in parents]
        members += [member for member in mutants if self._eligible(member)]
        found = list({one.digest: one for one in members if one.digest not in told}.values())
        if not found:
            return []
        return [found[i] for i in _leading(self.value(self.encoding.codes(found)), limit)]

    def _block(self, number: int) -> list[Any]:
        """The eligible ones of some random members that the seed and a number stand for, kept while they are in use."""
        if number not in self._blocks:
            draws = random.Random(f"{self.seed}:{number}:block")
            members = [self.space.sample(draws) for _ in range(BLOCK)]
            self._blocks[number] = [member for member in members if self._eligible(member)]
            self._blocks.pop(number - BLOCKS, None)
        return self._blocks[number]


def _leading(worth: Array, count: int) -> Codes:
    """The places of the `count` greatest values, greatest first, equal ones in their order: a stable sort's, but quicker."""
    if len(worth) <= count:
        return np.argsort(-worth, kind="stable")
    among = np.flatnonzero(worth >= np.partition(worth, len(worth) - count)[len(worth) - count])
    return among[np.argsort(-worth[among], kind="stable")[:count]]
