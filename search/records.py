"""A trial as Optuna keeps it: genes as parameters, objectives as values, budgets as constraints, the rest as attributes."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.errors import FileError, UsageError
from nas.search.space import Space
from nas.search.types import COMPLETE, FAILED, PASSED_OVER, SCREENED, Budgets, Trial
from nas.search_spaces.architecture import Architecture

_STATES = {
    COMPLETE: TrialState.COMPLETE,
    SCREENED: TrialState.PRUNED,
    PASSED_OVER: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}
_NAMES = {TrialState.COMPLETE: COMPLETE, TrialState.FAIL: FAILED}
_CHEAP, _FULL = 0, 1


class Records:
    """Turns the trials of a space into Optuna's and back.

    What the search itself reads back is in each trial's user attributes, so nothing depends on how Optuna numbers its trials.
    A trial that is screened or passed over is a pruned one of Optuna, with its cheap score as the intermediate value of step 0;
    which of them it is, its fidelity tells.
    """

    def __init__(self, space: Space, objectives: tuple[str, ...], budgets: Budgets) -> None:
        self.space, self.objectives, self.budgets = space, objectives, budgets
        self._distributions = {gene.name: CategoricalDistribution(gene.choices) for gene in space.genes}

    def started(self, number: int, architecture: Architecture, owner: str) -> FrozenTrial:
        """A candidate that `owner` is evaluating."""
        attributes = {"number": number, "architecture": architecture.to_json(), "digest": architecture.digest, "owner": owner}
        return self._made(TrialState.RUNNING, architecture, attributes)

    def finished(self, trial: Trial) -> FrozenTrial:
        """A finished candidate; metrics that are not finite are left out. Raises UsageError where an objective is."""
        metrics = {name: float(value) for name, value in trial.metrics.items() if math.isfinite(value)}
        missing = [name for name in self.objectives if name not in metrics] if trial.complete else []
        if missing:
            raise UsageError(f"trial {trial.number} has no finite {missing[0]}, which is an objective")
        attributes: dict[str, Any] = {
            "number": trial.number,
            "architecture": trial.architecture.to_json(),
            "digest": trial.architecture.digest,
            "metrics": metrics,
            "error": trial.error,
            **({"repeat": trial.repeat} if trial.repeat else {}),
            **({"origin": trial.origin} if trial.origin else {}),
        }
        made = self._made(_STATES[trial.state], trial.architecture, attributes)
        if trial.full:
            made.values = [metrics[name] for name in self.objectives]
        if "screening" in metrics:
            made.intermediate_values[_CHEAP] = metrics["screening"]
            if trial.full and len(self.objectives) == 1:
                made.intermediate_values[_FULL] = metrics[self.objectives[0]]
        for name, limit in self.budgets.limits.items():
            if name in metrics:
                made.set_constraint(name, self.budgets.used(name, metrics) - limit)
        return made

    def read(self, frozen: FrozenTrial, location: str) -> Trial:
        """The trial that `finished` wrote. Raises FileError for a trial of another program."""
        attributes = frozen.user_attrs
        try:
            return Trial(
                attributes["number"],
                self.space.from_json(attributes["architecture"]),
                self._state(frozen),
                attributes["metrics"],
                attributes["error"],
                attributes.get("repeat", 0),
                attributes.get("origin", ""),
            )
        except (KeyError, UsageError) as error:
            raise FileError(f"{location}: trial {frozen.number} was not written by nas ({one_line(error)})") from error

    def _state(self, frozen: FrozenTrial) -> str:
        if frozen.state is not TrialState.PRUNED:
            return _NAMES[frozen.state]
        return SCREENED if frozen.user_attrs["metrics"].get("fidelity", 1.0) > 0.0 else PASSED_OVER

    def _made(self, state: TrialState, architecture: Architecture, attributes: dict[str, Any]) -> FrozenTrial:
        genes, active = self.space.encoded(architecture)
        now = datetime.now()
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=None,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params={name: genes[name] for name in active},
            distributions={name: self._distributions[name] for name in active},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values={},
        )


def one_line(error: BaseException) -> str:
    """An error of another library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
