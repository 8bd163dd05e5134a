"""`Archive`: all finished candidates of a search, as an Optuna study in a journal file or in another storage by URL.

optuna-dashboard opens it: parameters are the genes that play a part, values the objectives, constraints the budgets. What
the search itself reads back is in each trial's user attributes (number, architecture, metrics, error), so nothing depends
on how Optuna numbers its trials.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.errors import FileError, NasError, UsageError
from nas.search import journal
from nas.search.space import Space
from nas.search.types import COMPLETE, FAILED, MAXIMISED, Budgets, Trial

FORMAT = "nas-archive"
VERSION = 1
STUDY = "nas"
MEMORY = "memory://"


class Archive:
    """The trials of one search; metrics that are not finite are left out.

    Reading needs no right to write; the first `add` (or `claim`) makes this the only writer.
    `location` is a path of a journal file, a storage URL (`sqlite:///x.db`, `postgresql://...`), or `memory://` for a search
    that leaves nothing behind. Raises FileError for a
    foreign or damaged file and for an archive of another space or other objectives. `identity` names what else the recorded
    accuracies depend on (data, training, seed); an archive of another identity is refused where one is given.
    """

    def __init__(
        self,
        location: str | Path,
        space: Space,
        objectives: tuple[str, ...] = ("accuracy",),
        budgets: Budgets | None = None,
        identity: str = "",
    ) -> None:
        self.space, self.identity = space, identity
        self.objectives = objectives
        self.budgets = budgets or Budgets()
        self._url = str(location) if "://" in str(location) else None
        self.location = str(location) if self._url else str(Path(location).absolute())
        self._writer: IO[bytes] | None = None
        self._distributions = {gene.name: CategoricalDistribution(gene.choices) for gene in space.genes}
        self._trials: dict[int, Trial] = {}
        self._digests: dict[str, list[int]] = {}
        self._read = 0
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if self._url is None and journal.check(Path(self.location)) == 0:
            self.claim()
        self._storage = self._open()
        self._study = self._open_study()
        self._refresh()

    def claim(self) -> None:
        """Become the only writer of the file. Raises FileError where another process is."""
        if self._url is None and self._writer is None:
            self._writer = journal.claim(Path(self.location))
            if self._read:
                self._refresh()

    def close(self) -> None:
        """Let others write."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def trials(self) -> list[Trial]:
        """All recorded trials, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    def count(self, digest: str) -> int:
        """How often an architecture is recorded."""
        return len(self._digests.get(digest, ()))

    def add(self, trial: Trial) -> None:
        """Record a finished trial, whole or not at all; it is on the disk when this returns.

        Raises NasError for a number that is recorded already, and for an architecture that is, unless the trial says that it
        repeats it; FileError where writing fails.
        """
        digest = trial.architecture.digest
        if trial.number in self._trials:
            raise NasError(f"trial {trial.number} is recorded already; a search writes each of its numbers once")
        if self.count(digest) != trial.repeat:
            known = f"as trial {self._digests[digest][-1]}" if digest in self._digests else "though not so often"
            raise NasError(f"architecture {digest} is recorded already, {known}")
        self.claim()
        try:
            self._study.add_trial(self._frozen(trial, digest))
        except OSError as error:
            raise FileError(f"cannot write {self.location}: {error.strerror or error}; free some space") from error
        self._keep(trial)
        self._read += 1

    def _keep(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        self._digests.setdefault(trial.architecture.digest, []).append(trial.number)

    def _open(self) -> BaseStorage:
        if self._url is None:
            return journal.open_storage(Path(self.location))
        if self._url == MEMORY:
            return optuna.storages.InMemoryStorage()
        try:
            return optuna.storages.get_storage(self._url)
        except Exception as error:  # SQLAlchemy's classes, whichever driver the URL names
            raise FileError(f"cannot open the storage {self._url}: {_one_line(error)}") from error

    def _open_study(self) -> optuna.Study:
        """The study, made or completed where a killed process left it unfinished; its header is checked."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "space": self.space.to_mapping(),
            "objectives": list(self.objectives),
            "identity": self.identity,
        }
        directions = [StudyDirection.MAXIMIZE if name in MAXIMISED else StudyDirection.MINIMIZE for name in self.objectives]
        names = [found.study_name for found in self._storage.get_all_studies()]
        if STUDY not in names and names:
            raise FileError(f"{self.location} holds the Optuna study {names[0]!r}, no search of nas; choose another file")
        if STUDY in names:
            study = optuna.load_study(study_name=STUDY, storage=self._storage)
        else:
            self.claim()
            study = optuna.create_study(study_name=STUDY, storage=self._storage, directions=directions)
        found = study.user_attrs.get(FORMAT)
        if found is None and not study.get_trials(deepcopy=False):
            self.claim()
            study.set_user_attr(FORMAT, header)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(self.objectives))
            found = header
        self._check(found, header)
        return study

    def _check(self, found: Any, wanted: Mapping[str, Any]) -> None:
        """Raise FileError unless the header `found` is that of this space and these objectives."""
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise FileError(f"{self.location} is no archive of nas; choose another file")
        if found.get("version") != VERSION:
            raise FileError(f"{self.location} has archive version {found.get('version')!r}, not {VERSION}: update nas")
        if found["space"] != wanted["space"]:
            theirs = found["space"].get("name")
            how = f"space {theirs!r}" if theirs != self.space.name else f"another version of space {theirs!r}"
            raise FileError(f"{self.location} is an archive of {how}, not of this {self.space.name!r}; choose another folder")
        if found["objectives"] != wanted["objectives"]:
            raise FileError(
                f"{self.location} has the objectives {', '.join(found['objectives'])}, not {', '.join(self.objectives)}; "
                "choose another folder"
            )

        if wanted["identity"] and found.get("identity") not in ("", wanted["identity"]):
            raise FileError(
                f"{self.location} holds the candidates of another run (other data, training or seed); choose another folder or "
                "--storage"
            )

    def _refresh(self) -> None:
        """Read the trials that were recorded since, by whomever."""
        frozen = self._study.get_trials(deepcopy=False)
        for one in frozen[self._read :]:
            self._keep(self._thawed(one))
        self._read = len(frozen)

    def _frozen(self, trial: Trial, digest: str) -> FrozenTrial:
        metrics = {name: float(value) for name, value in trial.metrics.items() if math.isfinite(value)}
        if trial.complete:
            missing = [name for name in self.objectives if name not in metrics]
            if missing:
                raise UsageError(f"trial {trial.number} has no finite {missing[0]}, which is an objective")
        attributes = {
            "number": trial.number,
            "architecture": trial.architecture.to_json(),
            "digest": digest,
            "metrics": metrics,
            "error": trial.error,
            **({"repeat": trial.repeat} if trial.repeat else {}),
        }
        limits = {name: limit for name, limit in self.budgets.limits.items() if name in metrics}
        genes, active = self.space.encoded(trial.architecture)
        now = datetime.now()
        made = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.COMPLETE if trial.complete else TrialState.FAIL,
            value=None,
            values=[metrics[name] for name in self.objectives] if trial.complete else None,
            datetime_start=now,
            datetime_complete=now,
            params={name: genes[name] for name in active},
            distributions={name: self._distributions[name] for name in active},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values={},
        )
        for name, limit in limits.items():
            made.set_constraint(name, self.budgets.used(name, metrics) - limit)
        return made

    def _thawed(self, frozen: FrozenTrial) -> Trial:
        """The trial that `_frozen` wrote. Raises FileError for a trial of another program."""
        attributes = frozen.user_attrs
        try:
            return Trial(
                attributes["number"],
                self.space.from_json(attributes["architecture"]),
                COMPLETE if frozen.state == TrialState.COMPLETE else FAILED,
                attributes["metrics"],
                attributes["error"],
                attributes.get("repeat", 0),
            )
        except (KeyError, UsageError) as error:
            raise FileError(f"{self.location}: trial {frozen.number} was not written by nas ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
