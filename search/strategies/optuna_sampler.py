"""Any sampler of Optuna by name: `optuna:NSGAIISampler`, `optuna:CmaEsSampler`, `optuna:RandomSampler` ..."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.samplers._ga import BaseGASampler

from nas.errors import UsageError
from nas.search.strategy import Factory, register_family
from nas.search.surrogate_study import Asked, OptunaStrategy
from nas.search.types import Problem, Trial

POPULATION = 40
_NOT_ALONE = {"BaseSampler", "PartialFixedSampler", "GridSampler", "BruteForceSampler"}


class OptunaSampler(OptunaStrategy):
    """A sampler of Optuna over the fixed-length genotype, made anew for each trial with a seed of the trial's.

    Samplers that draw gene by gene do so from the same history; those that keep a state beyond the study start from the
    study alone, as in a resumed run.
    """

    def __init__(self, problem: Problem, seed: int, kind: type[BaseSampler]) -> None:
        super().__init__(problem, seed)
        self.kind = kind

    def sampler(self, asked: Asked) -> BaseSampler:
        """The sampler, seeded where it can be, and without random trials of its own where it lets one choose."""
        wanted = {
            "seed": asked.rng.getrandbits(32),
            "n_startup_trials": 0,
            "warn_independent_sampling": False,
            "population_size": POPULATION,
        }
        known = inspect.signature(self.kind).parameters
        made: Any = self.kind
        found: BaseSampler = made(**{name: value for name, value in wanted.items() if name in known})
        return found

    def attributes(self, trial: Trial) -> dict[str, Any]:
        """The generation, for genetic samplers: without it they take no trial for a parent and draw at random."""
        if not issubclass(self.kind, BaseGASampler):
            return {}
        return {self.kind._get_generation_key(): trial.number // POPULATION}


@register_family("optuna", single=True)
def optuna_sampler(name: str) -> Factory:
    """A factory of strategies around `optuna.samplers.NAME`. Raises UsageError with the nearest name."""
    known = [one for one in optuna.samplers.__all__ if one.endswith("Sampler") and one not in _NOT_ALONE]
    if name not in known:
        near = get_close_matches(name, known, 1)
        remedy = f"did you mean 'optuna:{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"Optuna has no sampler {name!r} for a search; {remedy}")
    kind: type[BaseSampler] = getattr(optuna.samplers, name)
    return lambda problem, seed: OptunaSampler(problem, seed, kind)
