"""`Archive`: all finished candidates of a search, as an Optuna study in a journal file or in another storage by URL.

optuna-dashboard opens it: parameters are the genes that play a part, values the objectives, constraints the budgets. What
the search itself reads back is in each trial's user attributes (number, architecture, metrics, error). One process writes a
journal; any number of them fill a study in a database, each candidate reserved by one before it is evaluated.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError

from nas.errors import FileError, NasError
from nas.search import journal
from nas.search.records import Records
from nas.search.reservations import Reservations, counts
from nas.search.space import Space
from nas.search.storage import reached, shown
from nas.search.study import MEMORY, Header, open_storage, open_study, read_study
from nas.search.types import Budgets, Trial
from nas.search_spaces.architecture import Architecture

__all__ = ["MEMORY", "Archive"]


class Archive:
    """The trials of one search; metrics that are not finite are left out.

    Reading needs no right to write; the first `add` (or `claim`) makes this the only writer of a journal.
    `location` is a path of a journal file, a storage URL (`sqlite:///x.db`, `postgresql://...`), or `memory://` for a search
    that leaves nothing behind. Raises FileError for a foreign or damaged file and for an archive of another space or other
    objectives. `identity` names what else the recorded accuracies depend on (data, training, seed); an archive of another
    identity is refused where one is given. With `reading` nothing is written, not even where there is no archive yet: then it
    has no trials.
    """

    def __init__(
        self,
        location: str | Path,
        space: Space,
        objectives: tuple[str, ...] = ("accuracy",),
        budgets: Budgets | None = None,
        identity: str = "",
        *,
        reading: bool = False,
    ) -> None:
        self.space, self.objectives, self.identity, self.reading = space, objectives, identity, reading
        self.budgets = budgets or Budgets()
        url = "://" in str(location)
        self.location = str(location) if url else str(Path(location).absolute())
        self.shared = url and self.location != MEMORY
        self._journal = None if url else Path(self.location)
        self._writer: IO[bytes] | None = None
        self._trials: dict[int, Trial] = {}
        self._digests: dict[str, list[int]] = {}
        self._seen: set[int] = set()
        self._read = 0
        with reached(self.location):
            self._study = self._open(Header(space.to_mapping(), objectives, identity))
        self._records = Records(space, objectives, self.budgets)
        self._reservations = Reservations(self._study, self._records)
        self.refresh()

    def _open(self, header: Header) -> Study:
        if self.reading:
            return read_study(self.location, header)
        if self._journal is not None and journal.check(self._journal) == 0:
            self.claim()
        return open_study(open_storage(self.location), self.location, header, self.claim)

    def claim(self) -> None:
        """Become the only writer of a journal. Raises FileError where another process is, NasError for a mere reader."""
        if self.reading:
            raise NasError(f"{shown(self.location)} was opened for reading alone")
        if self._journal is not None and self._writer is None:
            self._writer = journal.claim(self._journal)
            if self._read:
                self.refresh()

    def close(self) -> None:
        """Let others write, and give back what is reserved."""
        with reached(self.location):
            self._reservations.release()
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

    def reserve(self, number: int, architecture: Architecture) -> bool:
        """Make sure that no other process evaluates a candidate; False where one does or has done it, or has the number."""
        if not self.shared:
            return True
        with reached(self.location):
            return self._reservations.take(number, architecture)

    def elsewhere(self) -> dict[int, Architecture]:
        """What other processes are evaluating, by number."""
        if not self.shared:
            return {}
        with reached(self.location):
            found = [trial.user_attrs for trial in self._reservations.elsewhere()]
        return {one["number"]: self.space.from_json(one["architecture"]) for one in found}

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
            with reached(self.location):
                self._write(trial)
        except OSError as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # stopped while Optuna took its lock off the journal
                raise error.__context__ from None
            raise FileError(f"cannot write {shown(self.location)}: {error.strerror or error}; free some space") from error

    def refresh(self) -> list[Trial]:
        """Read the trials that others have recorded since, and tell which these are."""
        with reached(self.location):
            frozen = self._study.get_trials(deepcopy=False)
        found = []
        for one in frozen[self._read :]:
            if one.number not in self._seen and one.state.is_finished() and counts(one):
                if one.user_attrs.get("number") not in self._trials:
                    found.append(self._records.read(one, shown(self.location)))
                    self._keep(found[-1])
                self._seen.add(one.number)
        while self._read < len(frozen) and frozen[self._read].state.is_finished():
            self._seen.discard(self._read)
            self._read += 1
        return found

    def _write(self, trial: Trial) -> None:
        if self._reservations.holds(trial.number):
            self._finish(trial)
        else:
            self._study.add_trial(self._records.finished(trial))
        self._keep(trial)
        if not self.shared:
            self._read += 1

    def _finish(self, trial: Trial) -> None:
        try:
            self._reservations.finish(trial)
        except UpdateFinishedTrialError as error:
            raise NasError(
                f"trial {trial.number} took longer than a reservation in {shown(self.location)} lasts; resume to go on"
            ) from error

    def _keep(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        self._digests.setdefault(trial.architecture.digest, []).append(trial.number)
