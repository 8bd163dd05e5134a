"""An in-memory Optuna study that is fed by `tell`, so that any Optuna sampler proposes genotypes of a space."""

from __future__ import annotations

import random
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.strategy import HistoryStrategy
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

STARTUP = 20
DRAWS = 4
TIE = 1e-6
ROW = "row"


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


class OptunaStrategy(HistoryStrategy):
    """The first `startup` trials are random; then an Optuna sampler, made anew for each trial, draws a genotype.

    The genotype is repaired by the space, and by mutations where it is not feasible or not new. The sampler
    improves the first objective; a term too small to outweigh one image in a million lets the lower loss break ties.
    """

    def __init__(self, problem: Problem, seed: int = 0, startup: int = STARTUP) -> None:
        super().__init__(problem, seed)
        self.startup = startup
        self._choices = {gene.name: gene.choices for gene in self.space.genes}
        self._genes = {name: Index(len(choices)) for name, choices in self._choices.items() if len(choices) > 1}
        self._fed: list[int] = []
        self._rendered: dict[int, FrozenTrial] = {}
        self._study = _study()

    @abstractmethod
    def sampler(self, rng: random.Random, taken: set[str]) -> BaseSampler:
        """A fresh sampler of this strategy's kind, for one proposal that must not be among `taken`."""

    def row(self, architecture: Architecture) -> NDArray[np.float64]:
        """The canonical genotype as the indices of its choices, genes without a choice left out."""
        genotype = self.space.encode(architecture)
        return np.array([self._choices[name].index(genotype[name]) for name in self._genes], dtype=float)

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Architecture:
        if len(self.complete) < self.startup or not self._genes:
            return self._legal(self.space.sample, rng, taken)
        # Where members are scattered, a draw that is not feasible cannot be mended by small steps: draw again.
        return self._legal(lambda draws: self._draw(draws, taken), rng, taken, draws=1 if self.space.dense else DRAWS)

    def _draw(self, rng: random.Random, taken: set[str]) -> Architecture:
        self._feed()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = Relative(self.sampler(rng, taken), self._genes)
        trial = self._study.ask()
        drawn = trial.relative_params
        self._study.tell(trial, state=TrialState.FAIL)
        if not drawn:
            return self.space.sample(rng)
        chosen = {name: choices[drawn.get(name, 0)] for name, choices in self._choices.items()}
        return self.space.decode(chosen)

    def evidence(self) -> list[Trial]:
        """The trials that the sampler learns from, in order of number."""
        return self.complete

    def _feed(self) -> None:
        """Bring the study up to the evidence; from the start where that is not merely longer than before."""
        evidence = self.evidence()
        numbers = [trial.number for trial in evidence]
        if numbers[: len(self._fed)] != self._fed:
            self._study, self._fed = _study(), []
        for trial in evidence[len(self._fed) :]:
            if trial.number not in self._rendered:
                self._rendered[trial.number] = self._frozen(trial)
            self._study.add_trial(self._rendered[trial.number])
        self._fed = numbers

    def attributes(self, trial: Trial) -> dict[str, Any]:
        """What a sampler looks for in the system attributes of a trial; nothing here."""
        return {}

    def _frozen(self, trial: Trial) -> FrozenTrial:
        row = self.row(trial.architecture)
        params = dict(zip(self._genes, row.astype(int).tolist(), strict=True))
        value = -first_cost(self.problem, trial)
        found = create_trial(params=params, distributions=dict(self._genes), value=value, user_attrs={ROW: row})
        found.system_attrs = self.attributes(trial)
        return found


def first_cost(problem: Problem, trial: Trial) -> float:
    """The first objective, less being better, and a millionth at most for the loss."""
    loss = max(0.0, trial.metrics.get("loss", 0.0))
    return problem.costs(trial)[0] + TIE * loss / (1.0 + loss)


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
