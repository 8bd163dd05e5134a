"""An in-memory Optuna study that is fed by `tell`, so that any Optuna sampler proposes genotypes of a space."""

from __future__ import annotations

import bisect
import copy
import random
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.search.batches import Batches
from nas.search.strategy import HistoryStrategy
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

STARTUP = 20
DRAWS = 4
TIE = 1e-6
ROW = "row"
STUDY = "evidence"


class Index(CategoricalDistribution):
    """The choices of a gene by their index.

    A sampler converts every gene of every trial for every proposal, and the study copies all distributions of every trial:
    with 150 genes that is most of its time, hence a conversion without a look-up and a copy that is none.
    """

    def __init__(self, count: int) -> None:
        super().__init__(tuple(range(count)))

    to_internal_repr = staticmethod(float)  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Told(FrozenTrial):
    """A finished trial, which a storage copies as a whole and nobody changes: its many genes need no copies of their own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copy.copy(self)


class Relative(BaseSampler):
    """A sampler that draws all genes jointly, without looking for the genes that the trials have in common."""

    def __init__(self, sampler: BaseSampler, genes: Mapping[str, BaseDistribution]) -> None:
        self.sampler = sampler
        self.genes = dict(genes)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes that have a choice."""
        return self.genes

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the sampler draws for them."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What the sampler draws for one gene."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class Asked:
    """What a sampler is asked for: `count` proposals drawn by `rng` that are not among `taken`, learning from `known`."""

    rng: random.Random
    taken: set[str]
    known: list[Trial]
    count: int = 1


class OptunaStrategy(HistoryStrategy):
    """The first `startup` trials are random; then an Optuna sampler, made anew for each trial, draws a genotype.

    The genotype is repaired by the space, and by mutations where it is not feasible or not new. The sampler
    improves the first objective; a term too small to outweigh one image in a million lets the lower loss break ties.

    A subclass whose sampler ranks what it might draw (`ranked`) may set `share`: then a sampler serves a batch of trials, one
    in `share` of those before it, and is told of the trials before the batch alone.
    """

    share: ClassVar[int | None] = None

    def __init__(self, problem: Problem, seed: int = 0, startup: int = STARTUP) -> None:
        super().__init__(problem, seed)
        self.startup = startup
        self._choices = {gene.name: gene.choices for gene in self.space.genes}
        self._genes = {name: Index(len(choices)) for name, choices in self._choices.items() if len(choices) > 1}
        self._rendered: dict[int, FrozenTrial] = {}
        self._renew()
        self._batches = Batches(self.share) if self.share else None
        self._plan: tuple[tuple[int, int], list[Architecture]] | None = None

    @abstractmethod
    def sampler(self, asked: Asked) -> BaseSampler:
        """A fresh sampler of this strategy's kind."""

    def ranked(self, sampler: BaseSampler) -> list[NDArray[np.float64]]:
        """Rows of gene indices that a sampler would draw, best first, after it has drawn; nothing here."""
        return []

    def row(self, architecture: Architecture) -> NDArray[np.float64]:
        """The canonical genotype as the indices of its choices, genes without a choice left out."""
        genotype = self.space.encode(architecture)
        return np.array([self._choices[name].index(genotype[name]) for name in self._genes], dtype=float)

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        if len(self.complete) < self.startup or not self._genes:
            return self._legal(self.space.sample, rng, taken)
        start, size = self._batches.of(number) if self._batches else (number, 1)
        planned = iter(self._planned(start, size)[number - start :] if size > 1 else [])

        def draw(draws: random.Random) -> Architecture:
            return next(planned, None) or self._draw(Asked(draws, taken, self.complete))[0]

        # Where members are scattered, a draw that is not feasible cannot be mended by small steps: draw again.
        return self._legal(draw, rng, taken, draws=1 if self.space.dense else DRAWS)

    def _planned(self, start: int, size: int) -> list[Architecture]:
        """The proposals of a batch; made anew where a trial of an earlier number has come in since."""
        told = bisect.bisect_left(self.history, start, key=lambda trial: trial.number)
        if self._plan is None or self._plan[0] != (start, told):
            known = self.complete[: bisect.bisect_left(self.complete, start, key=lambda trial: trial.number)]
            taken = {trial.architecture.digest for trial in self.history[:told]}
            rng = random.Random(f"{self.seed}:{start}:plan")
            self._plan = (start, told), self._draw(Asked(rng, taken, known, size)) if known else []
        return self._plan[1]

    def _draw(self, asked: Asked) -> list[Architecture]:
        """At least one member that a fresh sampler proposes, feasible or not."""
        self._feed(self.evidence(asked.known))
        sampler = self.sampler(asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = Relative(sampler, self._genes)
        trial = self._study.ask()
        drawn = trial.relative_params
        self._study.tell(trial, state=TrialState.FAIL)
        if not drawn:
            return [self.space.sample(asked.rng)]
        rows = self.ranked(sampler)[: asked.count] or [np.array([drawn.get(name, 0) for name in self._genes])]
        return [self._decoded(row) for row in rows]

    def _decoded(self, row: NDArray[np.float64]) -> Architecture:
        indices = dict(zip(self._genes, row.astype(int).tolist(), strict=True))
        found: Architecture = self.space.decode({name: of[indices.get(name, 0)] for name, of in self._choices.items()})
        return found

    def evidence(self, known: list[Trial]) -> list[Trial]:
        """The trials that the sampler learns from, out of those it may know; both in order of number."""
        return known

    def _renew(self) -> None:
        """An empty study. Trials go to its storage directly: a study checks each gene of each."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._fed: list[int] = []
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(study_name=STUDY, direction="maximize", storage=self._storage)

    def _feed(self, evidence: list[Trial]) -> None:
        """Bring the study up to the evidence; from the start where that is not merely longer than before."""
        numbers = [trial.number for trial in evidence]
        if numbers[: len(self._fed)] != self._fed:
            self._renew()
        for trial in evidence[len(self._fed) :]:
            if trial.number not in self._rendered:
                self._rendered[trial.number] = self._frozen(trial)
            self._storage.create_new_trial(self._storage.get_study_id_from_name(STUDY), self._rendered[trial.number])
        self._fed = numbers

    def attributes(self, trial: Trial) -> dict[str, Any]:
        """What a sampler looks for in the system attributes of a trial; nothing here."""
        return {}

    def _frozen(self, trial: Trial) -> FrozenTrial:
        row, now = self.row(trial.architecture), datetime.now()
        return Told(
            number=-1,
            trial_id=-1,
            state=TrialState.COMPLETE,
            value=-first_cost(self.problem, trial),
            datetime_start=now,
            datetime_complete=now,
            params=dict(zip(self._genes, row.astype(int).tolist(), strict=True)),
            distributions=dict(self._genes),
            user_attrs={ROW: row},
            system_attrs=self.attributes(trial),
            intermediate_values={},
        )


def first_cost(problem: Problem, trial: Trial) -> float:
    """The first objective, less being better, and a millionth at most for the loss."""
    loss = max(0.0, trial.metrics.get("loss", 0.0))
    return problem.costs(trial)[0] + TIE * loss / (1.0 + loss)
