"""The Optuna study behind an archive: opened or made, and its header checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from nas.errors import FileError
from nas.search import journal
from nas.search.storage import exists, open_url, shown
from nas.search.types import MAXIMISED

FORMAT = "nas-archive"
VERSION = 1
STUDY = "nas"
MEMORY = "memory://"


@dataclass(frozen=True)
class Header:
    """What a study is of: its space, its objectives, and what else its accuracies depend on (`identity`, empty if unknown)."""

    space: Mapping[str, Any]
    objectives: tuple[str, ...]
    identity: str = ""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for a study's attributes."""
        plain = {"space": dict(self.space), "objectives": list(self.objectives), "identity": self.identity}
        return {"format": FORMAT, "version": VERSION, **plain}

    def require(self, found: Any, location: str) -> None:
        """Raise FileError unless `found`, the header at a location, is that of this space and these objectives."""
        location = shown(location)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise FileError(f"{location} is no archive of nas; choose another file")
        if found.get("version") != VERSION:
            raise FileError(f"{location} has archive version {found.get('version')!r}, not {VERSION}: update nas")
        if found["space"] != self.space:
            mine, theirs = self.space["name"], found["space"].get("name")
            how = f"space {theirs!r}" if theirs != mine else f"another version of space {theirs!r}"
            raise FileError(f"{location} is an archive of {how}, not of this {mine!r}; choose another folder")
        if found["objectives"] != list(self.objectives):
            raise FileError(
                f"{location} has the objectives {', '.join(found['objectives'])}, not {', '.join(self.objectives)}; "
                "choose another folder"
            )
        if self.identity and found.get("identity") not in ("", self.identity):
            raise FileError(
                f"{location} holds the candidates of another run (other data, training, supernet, seed, targets or budgets); "
                "choose another folder or --storage"
            )


def open_storage(location: str) -> BaseStorage:
    """The storage of a journal's path or of a URL. Raises FileError where it cannot be opened or is another program's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if "://" not in location:
        return journal.open_storage(Path(location))
    return optuna.storages.InMemoryStorage() if location == MEMORY else open_url(location)


def open_study(storage: BaseStorage, location: str, header: Header, claim: Callable[[], None]) -> optuna.Study:
    """The study, made or completed where a killed process left it unfinished; `claim` is called before it is written to.

    Raises FileError for the study of another program or of another header.
    """
    study = _known(storage, location)
    if study is None:
        claim()
        directions = [StudyDirection.MAXIMIZE if name in MAXIMISED else StudyDirection.MINIMIZE for name in header.objectives]
        study = optuna.create_study(study_name=STUDY, storage=storage, directions=directions, load_if_exists=True)
    found = study.user_attrs.get(FORMAT)
    if found is None and not study.get_trials(deepcopy=False):
        claim()
        found = header.to_mapping()
        study.set_user_attr(FORMAT, found)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(header.objectives))
    header.require(found, location)
    return study


def read_study(location: str, header: Header) -> optuna.Study:
    """The study at a location, or where there is none yet one without trials; nothing is written there.

    Raises FileError for what `open_study` refuses.
    """
    if exists(location) if "://" in location else journal.check(Path(location)):
        study = _known(open_storage(location), location)
        found = None if study is None else study.user_attrs.get(FORMAT)
        if study is not None and (found is not None or study.get_trials(deepcopy=False)):
            header.require(found, location)
            return study
    return optuna.create_study(storage=open_storage(MEMORY))


def _known(storage: BaseStorage, location: str) -> optuna.Study | None:
    names = [found.study_name for found in storage.get_all_studies()]
    if STUDY in names:
        return optuna.load_study(study_name=STUDY, storage=storage)
    if names:
        raise FileError(f"{shown(location)} holds the Optuna study {names[0]!r}, no search of nas; choose another one")
    return None
