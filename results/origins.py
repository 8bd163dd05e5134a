"""Starting from the candidates of other runs: told as history where they mean the same, else proposed first."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from nas.errors import FileError
from nas.files import read_json, write_json
from nas.results.metrics import of_target
from nas.results.run import Run
from nas.search.archive import Archive
from nas.search.types import Trial, merit
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.results.pipeline import SearchRun

SEEDS = 20
PAUSE = 0.2


class Origins:
    """The runs that a run starts from.

    Where another run has the same space, data, threads and supernet, weight for weight, its trials are taken over into the
    archive: they are history, are never evaluated again, and may win. Of any other run the best candidates are proposed first.
    What was taken over is written down (`origins.json`), so that the other runs are no longer needed.
    """

    def __init__(self, run: SearchRun) -> None:
        self.run = run
        self.taken = 0
        self.seeds: list[Architecture] = []

    def require(self) -> None:
        """Raise FileError where a run that is not taken over yet cannot be read."""
        if not self.run.folder.origins.exists():
            for path in self.run.config.origins:
                with Run.open(path).archive():
                    pass

    def join(self) -> None:
        """Take over what there is to take over; needs the run's trained supernet and predictors."""
        run, place = self.run, self.run.folder.origins
        if not run.config.origins:
            return
        if not place.exists():
            same, others = self._sorted()
            taken, seeds = self._record(same), [seed.to_mapping() for seed in self._best(others)]
            write_json(place, {"taken": taken, "seeds": seeds})
            told = f"{taken} candidates taken over as history, {len(seeds)} to be proposed first"
            run.reporter.note(f"from {', '.join(run.config.origins)}: {told}")
        found = read_json(place, "origins")
        self.taken, self.seeds = int(found["taken"]), [Architecture.from_mapping(seed) for seed in found["seeds"]]

    def _sorted(self) -> tuple[list[Trial], list[tuple[SearchSpace, Trial]]]:
        """The trials to take over, each architecture once, and those scored in full that mean something else."""
        run = self.run
        mine = identity(run.folder)
        same: dict[str, Trial] = {}
        others: list[tuple[SearchSpace, Trial]] = []
        for path in run.config.origins:
            other = Run.open(path)
            with other.archive() as archive:
                trials = archive.trials()
            if identity(other) != mine:
                others += [(other.config().search_space(), trial) for trial in trials if trial.full]
                continue
            comparable = other.config().screened_as() == run.config.screened_as()
            for trial in trials:
                if comparable or trial.full:
                    same.setdefault(trial.architecture.digest, replace(trial, origin=trial.origin or str(path)))
        return list(same.values()), others

    def _record(self, trials: list[Trial]) -> int:
        """Write trials into the archive, with what this run's predictors say of them; how many are there then.

        Those that an earlier attempt has written stay as they are.
        """
        problem = self.run.problem
        with self.run.archive() as archive:
            for trial in trials:
                if self.run.runnable_space.contains(trial.architecture):
                    number = _reserved(archive, trial.architecture)
                    if number is not None:
                        measured = {name: value for name, value in trial.metrics.items() if not of_target(name)}
                        metrics = {**measured, **problem.cheap(trial.architecture)}
                        archive.add(replace(trial, number=number, metrics=metrics, repeat=0))
            return sum(bool(trial.origin) for trial in archive.trials())

    def _best(self, trials: list[tuple[SearchSpace, Trial]]) -> list[Architecture]:
        """The best by their own run's accuracy, as members of this run's space, each once."""
        ranked, problem = sorted(trials, key=lambda item: merit(item[1])), self.run.problem
        found: dict[str, Architecture] = {}
        for space, trial in ranked:
            member = _translated(space, self.run.runnable_space, trial.architecture)
            if len(found) < SEEDS and problem.violation(member) == 0.0:
                found.setdefault(member.digest, member)
        return list(found.values())


def _reserved(archive: Archive, architecture: Architecture) -> int | None:
    """A number that is reserved for an architecture; None where it is recorded.

    What another process on the same storage has in hand is waited for.
    """
    while not archive.count(architecture.digest):
        busy = archive.elsewhere()
        if architecture in busy.values():
            time.sleep(PAUSE)
        else:
            number = next(n for n in itertools.count(len(archive)) if n not in archive and n not in busy)
            if archive.reserve(number, architecture):
                return number
        archive.refresh()
    return None


def identity(run: Run) -> str:
    """A digest of what the accuracies of a run's candidates depend on, down to the last weight and the adaptation."""
    config = run.config()
    what = [config.to_mapping()["space"], config.data_fingerprint, config.threads, weights_digest(run.checkpoint)]
    what += config.adapted_as()
    return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()


def weights_digest(checkpoint: Path) -> str:
    """A digest of the weights in a checkpoint, averages included, whatever else it holds; empty where there is none.

    Raises FileError for a damaged file.
    """
    if not checkpoint.exists():
        return ""
    hashed = blake2b(digest_size=8)
    try:
        with safe_open(str(checkpoint), framework="np") as file:
            for name in sorted(file.keys()):
                if not name.startswith("optimizer/"):
                    hashed.update(name.encode())
                    hashed.update(file.get_tensor(name).tobytes())
    except (SafetensorError, OSError) as error:
        raise FileError(f"checkpoint {checkpoint} is damaged ({error}); delete it to train from the start") from error
    return hashed.hexdigest()


def _translated(theirs: SearchSpace, ours: SearchSpace, architecture: Architecture) -> Architecture:
    """The member of our space that makes the same choices where both spaces have them."""
    if ours.contains(architecture):
        return architecture
    known = theirs.encode(architecture)
    genes = ours.encode(ours.smallest())
    same = {gene.name: known[gene.name] for gene in ours.genes if gene.name in known and known[gene.name] in gene.choices}
    return ours.decode({**genes, **same})
