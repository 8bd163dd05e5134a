"""`Strategy`: the ask/tell protocol, the base that keeps the history, and the registry that finds strategies by name."""

from __future__ import annotations

import bisect
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from nas.errors import UsageError
from nas.plugins import discover, lookup
from nas.search.proposal import DRAWS, Draw, Proposer
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture


class Strategy(Protocol):
    """What proposes candidates.

    `ask` is a pure function of the seed, the trial's number, the trials told so far (in whatever order and portions) and
    the pending candidates: every draw comes from a generator seeded by the number. So a search that is resumed (`tell` the
    stored history, then `ask`) proposes what the uninterrupted one would have.
    """

    def ask(self, number: int, pending: Sequence[Architecture] = ()) -> Architecture:
        """A feasible architecture that is neither told nor pending. Raises InfeasibleError or SpaceExhausted."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn of finished trials; also called once with the stored history when a search resumes."""

    def recommend(self) -> Recommendation | None:
        """What to hand over now, which need not be the trial with the best feedback where feedback is noisy."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An architecture to hand over, and in how many trials its choice was seen."""

    architecture: Any
    seen: int


class HistoryStrategy(ABC):
    """A strategy that keeps what it was told, ordered by number, and leaves only `_propose` to its subclasses."""

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self.problem = problem
        self.space = problem.space
        self.seed = seed
        self.history: list[Trial] = []
        self.complete: list[Trial] = []
        self._digests: set[str] = set()
        self._proposer = Proposer(problem)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep `trials` in order of number; `complete` holds those that succeeded within the budgets."""
        for trial in trials:
            bisect.insort(self.history, trial, key=_number)
            self._digests.add(trial.architecture.digest)
            if self._counts(trial):
                bisect.insort(self.complete, trial, key=_number)

    def _counts(self, trial: Trial) -> bool:
        """Whether a trial has its objectives and keeps the budgets."""
        return trial.complete and self.problem.budgets.violation(trial.metrics) == 0.0

    def recommend(self) -> Recommendation | None:
        """What to hand over now: the best mean over the complete trials of an architecture; None before the first."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.complete:
            groups.setdefault(trial.architecture.digest, []).append(trial)
        if not groups:
            return None
        chosen = min(groups.values(), key=lambda group: sum(self.problem.costs(one)[0] for one in group) / len(group))
        return Recommendation(chosen[0].architecture, len(chosen))

    def ask(self, number: int, pending: Sequence[Architecture] = ()) -> Architecture:
        """See `Strategy.ask`."""
        rng = random.Random(f"{self.seed}:{number}")
        open_digests = {architecture.digest for architecture in pending}
        return self._propose(number, rng, self._digests | open_digests if open_digests else self._digests)

    @abstractmethod
    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        """The proposal for a trial, drawn from `rng` alone."""

    def _legal(self, draw: Draw, rng: random.Random, taken: set[str], draws: int = DRAWS) -> Architecture:
        """A feasible, new architecture of `draw`, or near it; see `Proposer.propose`."""
        return self._proposer.propose(draw, rng, taken, draws)


def _number(trial: Trial) -> int:
    return trial.number


Factory = Callable[[Problem, int], Strategy]
F = TypeVar("F", bound=Callable[..., Strategy])


@dataclass(frozen=True, slots=True)
class Registered:
    """A strategy's name, its line for people, what makes one for a problem and a seed, and whether it has one objective.

    `revision` is raised with every change of what it proposes, so that stored runs of a benchmark are played again.
    """

    name: str
    summary: str
    make: Factory
    single: bool = False
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Family:
    """What makes the factory of each member of a family, and whether its members have one objective."""

    member: Callable[[str], Factory]
    single: bool = False


_REGISTRY: dict[str, Registered] = {}
_FAMILIES: dict[str, Family] = {}


def register(name: str, summary: str, *, single: bool = False, revision: int = 1) -> Callable[[F], F]:
    """Announce a strategy; what is decorated is called with the problem and the seed.

    `single` is for one that improves one objective, however many there are; `revision` as in `Registered`.
    """

    def announce(factory: F) -> F:
        known = _REGISTRY.get(name)
        if known is not None and getattr(known.make, "__qualname__", "") != factory.__qualname__:
            raise UsageError(f"strategy {name!r} is registered twice, by {known.make} and {factory}")
        _REGISTRY[name] = Registered(name, summary, factory, single, revision)
        return factory

    return announce


def register_family(family: str, *, single: bool = False) -> Callable[[Callable[[str], Factory]], Callable[[str], Factory]]:
    """Announce strategies named `family:member`: what is decorated makes the factory of a member, or raises UsageError.

    `single` is as in `register`.
    """

    def announce(members: Callable[[str], Factory]) -> Callable[[str], Factory]:
        _FAMILIES[family] = Family(members, single)
        return members

    return announce


@cache
def _load() -> None:
    """Import every module of `nas.search.strategies` and what other packages announce in the group `nas.strategies`."""
    discover("nas.search.strategies", "nas.strategies")


def strategies() -> list[Registered]:
    """All registered strategies, sorted by name."""
    _load()
    return [_REGISTRY[name] for name in sorted(_REGISTRY)]


def names() -> list[str]:
    """The names of all strategies, sorted."""
    return [found.name for found in strategies()]


def require(name: str) -> Factory:
    """What makes the strategy of that name; `family:member` asks a family. Raises UnknownNameError, with the nearest."""
    _load()
    family, colon, member = name.partition(":")
    if colon and family in _FAMILIES:
        return _FAMILIES[family].member(member)
    return lookup("strategy", name, _REGISTRY).make


def single(name: str) -> bool:
    """Whether the strategy of that name improves one objective, however many there are. Raises UnknownNameError."""
    _load()
    family, colon, _ = name.partition(":")
    if colon and family in _FAMILIES:
        return _FAMILIES[family].single
    return lookup("strategy", name, _REGISTRY).single


def revision(name: str) -> int:
    """The revision of the strategy of that name; 1 for what is not registered here, as a member of a family."""
    _load()
    return _REGISTRY[name].revision if name in _REGISTRY else 1


def create(name: str, problem: Problem, seed: int = 0) -> Strategy:
    """The strategy of that name. Raises UnknownNameError with the nearest name."""
    return require(name)(problem, seed)
