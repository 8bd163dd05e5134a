"""Any sampler of Optuna by name: `optuna:NSGAIISampler`, `optuna:CmaEsSampler`, `optuna:RandomSampler` ..."""

from __future__ import annotations

import inspect
import itertools
import warnings
from difflib import get_close_matches
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._ga import BaseGASampler

from nas.errors import UsageError
from nas.search.strategy import Factory, register_family
from nas.search.surrogate_study import Asked, Index, OptunaStrategy, Relative
from nas.search.types import Problem, Trial

POPULATION = 40
_NOT_ALONE = {"PartialFixedSampler", "GridSampler", "BruteForceSampler"}


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
        return _made(self.kind, asked.rng.getrandbits(32))

    def attributes(self, trial: Trial) -> dict[str, Any]:
        """The generation, for genetic samplers: without it they take no trial for a parent and draw at random."""
        if not issubclass(self.kind, BaseGASampler):
            return {}
        return {self.kind._get_generation_key(): trial.number // POPULATION}


def _made(kind: type[BaseSampler], seed: int) -> BaseSampler:
    wanted = {"seed": seed, "n_startup_trials": 0, "warn_independent_sampling": False, "population_size": POPULATION}
    known = inspect.signature(kind).parameters
    made: Any = kind
    with warnings.catch_warnings():
        # That a sampler is experimental, or an option on its way out, is nothing that a user of the name can change.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        found: BaseSampler = made(**{name: value for name, value in wanted.items() if name in known})
    return found


@register_family("optuna", single=True)
def optuna_sampler(name: str) -> Factory:
    """A factory of strategies around `optuna.samplers.NAME`.

    Raises UsageError with the nearest name, or where the sampler does not work here, as one whose library is missing.
    """
    known = [one for one in optuna.samplers.__all__ if _alone(one)]
    if name not in known:
        near = get_close_matches(name, known, 1)
        remedy = f"did you mean 'optuna:{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"Optuna has no sampler {name!r} for a search; {remedy}")
    kind: type[BaseSampler] = getattr(optuna.samplers, name)
    _try(kind)
    return lambda problem, seed: OptunaSampler(problem, seed, kind)


def _alone(name: str) -> bool:
    """Whether a name of Optuna's is a sampler that can be made from a seed."""
    return name.endswith("Sampler") and name not in _NOT_ALONE and not inspect.isabstract(getattr(optuna.samplers, name))


@cache
def _try(kind: type[BaseSampler]) -> None:
    """Let a sampler draw from two genes: one that is short of a library says so when it draws first, amid a search.

    As in a search it knows some trials by then: a Gaussian process cannot draw without any. Raises UsageError.
    """
    genes: dict[str, BaseDistribution] = {name: Index(2) for name in ("first", "second")}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(sampler=Relative(_made(kind, 0), genes))
        for first, second in itertools.product(range(2), repeat=2):
            study.add_trial(
                optuna.trial.create_trial(params={"first": first, "second": second}, distributions=genes, value=first)
            )
        for value in (1.0, 0.0, 2.0):
            study.tell(study.ask(dict(genes)), value)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"Optuna's {kind.__name__} does not work here ({reason}); install what it lacks or choose another strategy"
        ) from error
