"""Several processes on one storage: each candidate is reserved, as a running trial of Optuna, before it is evaluated.

Optuna's storages number trials one after the other, whoever creates them, so of two processes that reserve the same number
or the same architecture the one with the lower trial number of Optuna keeps it, and the other one withdraws.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas.search.records import Records
from nas.search.types import Trial
from nas.search_spaces.architecture import Architecture

LAPSE = 3600.0
WITHDRAWN = "withdrawn"
OWNER = "owner"


class Reservations:
    """The running trials of a study. One of a process that died, or an hour old on another machine, no longer counts."""

    def __init__(self, study: optuna.Study, records: Records) -> None:
        self.study, self.records = study, records
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"
        self._storage = study._storage
        self._mine: dict[int, int] = {}

    def take(self, number: int, architecture: Architecture) -> bool:
        """Reserve a candidate; False where another process has the number or the architecture, finished or not."""
        started = self.records.started(number, architecture, self.owner)
        place = self._storage.create_new_trial(self.study._study_id, template_trial=started)
        trials = self.study.get_trials(deepcopy=False)
        mine = next(trial for trial in trials if trial._trial_id == place)
        if any(_rivals(other, mine) for other in trials if other.number < mine.number and counts(other)):
            self._withdraw(place)
            return False
        self._mine[number] = place
        return True

    def elsewhere(self) -> list[FrozenTrial]:
        """What other processes are evaluating; reservations that lapsed are closed."""
        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial._trial_id in self._mine.values():
                continue
            if self._lapsed(trial):
                self._withdraw(trial._trial_id)
            else:
                found.append(trial)
        return found

    def finish(self, trial: Trial) -> None:
        """Record a reserved candidate; its state, written last, makes the record whole.

        Raises UpdateFinishedTrialError where the reservation had lapsed and was closed by another process.
        """
        made, storage = self.records.finished(trial), self._storage
        place = self._mine.pop(trial.number)
        for name, value in made.user_attrs.items():
            storage.set_trial_user_attr(place, name, value)
        for name, value in made.system_attrs.items():
            storage.set_trial_system_attr(place, name, value)
        for step, value in made.intermediate_values.items():
            storage.set_trial_intermediate_value(place, step, value)
        storage.set_trial_state_values(place, made.state, made.values)

    def holds(self, number: int) -> bool:
        """Whether this process has reserved a number."""
        return number in self._mine

    def release(self) -> None:
        """Withdraw what is reserved and not recorded."""
        for place in self._mine.values():
            self._withdraw(place)
        self._mine.clear()

    def _withdraw(self, place: int) -> None:
        try:
            self._storage.set_trial_user_attr(place, WITHDRAWN, True)
            self._storage.set_trial_state_values(place, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass  # another process was quicker

    def _lapsed(self, trial: FrozenTrial) -> bool:
        host, process, started = str(trial.user_attrs.get(OWNER, "::")).rsplit(":", 2)
        if host == socket.gethostname():
            return not process.isdigit() or _started(int(process)) != started
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() > LAPSE


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial of Optuna is one of the search: recorded, or being evaluated."""
    return WITHDRAWN not in trial.user_attrs


def _rivals(first: FrozenTrial, second: FrozenTrial) -> bool:
    mine, theirs = first.user_attrs, second.user_attrs
    return mine.get("number") == theirs["number"] or mine.get("digest") == theirs["digest"]


def _started(process: int) -> str | None:
    """When a process of this machine was started, in ticks of its clock; "" where that is not told, None where it is dead."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except ProcessLookupError:
        return None
    except OSError:
        return ""  # no such files here, or a process of another user
