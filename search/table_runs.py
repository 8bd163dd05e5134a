"""Playing strategies on the tasks of tables: the loop, the archive and the constraint code of a real run, stored run by run.

A run is stored with a fingerprint of what it was played on and with. Where the table, the package's version, `REVISION` or
that of the strategy is another now, it is played again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.errors import FileError, InfeasibleError
from nas.search import strategy
from nas.search.archive import MEMORY, Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.table_tasks import FASTEST, FRONT, NOISY, TableEvaluator, Task, front_curve, judged
from nas.search.types import Problem, Trial

REVISION = 1
"""Raised with every change of the loop or of a task that changes what runs find; a strategy has a revision of its own."""
CHECKED = (1, 5, 10, 20, 30, 40, 50, 75, 100, 125, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Played:
    """One strategy's run on one task. `curve` is the task's value after each evaluation, NaN while nothing was feasible."""

    task: str
    strategy: str
    seed: int
    evaluations: int
    curve: tuple[float, ...]
    duplicates: int
    repeats: int
    failed: int
    fingerprint: str = ""


Key = tuple[str, str, int, int, str]


def fingerprint(task: Task, name: str) -> str:
    """What tells a run's table, package and strategy from others."""
    of_strategy = strategy.revision(name)
    return f"{task.content}-{version('hybrid-nas')}-{REVISION}" + (f".{of_strategy}" if of_strategy > 1 else "")


def run_key(task: Task, name: str, seed: int, evaluations: int) -> Key:
    """By what a run is found again: task, strategy, seed, evaluations, fingerprint."""
    return task.name, name, seed, evaluations, fingerprint(task, name)


def play(task: Task, name: str, seed: int, evaluations: int) -> Played:
    """Run a strategy on a task; the archive lives in memory. A run that finds nothing feasible ends, with what it has."""
    problem = task.problem()
    found = strategy.create(name, problem, seed)
    with Archive(MEMORY, task.space, problem.objectives, problem.budgets) as archive:
        evaluator = TableEvaluator(task, seed, archive)
        judge = _Judge(task, problem, found, seed)
        with contextlib.suppress(InfeasibleError):  # the table has a feasible row, which the strategy has not found
            run_search(problem, found, archive, LocalExecutor(evaluator), evaluations=evaluations, progress=judge)
        trials = archive.trials()
    curve = front_curve(task, trials) if task.kind == FRONT else judge.curve
    curve += (curve[-1:] or [math.nan]) * (evaluations - len(curve))
    distinct = len({trial.architecture.digest for trial in trials})
    repeats = sum(trial.repeat > 0 for trial in trials)
    failed = sum(trial.failed for trial in trials)
    rounded = tuple(float(f"{value:.9g}") for value in curve)
    duplicates = len(trials) - distinct - repeats
    return Played(task.name, name, seed, evaluations, rounded, duplicates, repeats, failed, fingerprint(task, name))


class _Judge:
    """Follows a run and notes what its best, or what it recommends, is worth after each evaluation."""

    def __init__(self, task: Task, problem: Problem, found: strategy.Strategy, seed: int) -> None:
        self.task, self.problem, self.strategy, self.seed = task, problem, found, seed
        self.curve: list[float] = []

    def __call__(self, done: int, total: int, best: Trial | None) -> None:
        if done == 0:
            return
        if self.task.kind == NOISY:
            known = self.curve[-1] if self.curve else math.nan
            self.curve.append(self.recommended() if done in CHECKED or done == total else known)
        elif best is None:
            self.curve.append(math.nan)
        else:
            key, scale = ("latency", 1.0) if self.task.kind == FASTEST else ("accuracy", self.task.scale)
            self.curve.append(best.metrics[key] * scale)

    def recommended(self) -> float:
        """What the strategy would hand over now, by the seeds of it that it has not seen."""
        told = self.strategy.recommend()
        return math.nan if told is None else judged(self.task, self.seed, told.architecture, told.seen)


class Results:
    """Finished runs in a file of JSON lines, one appended for each; a torn last line is played again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.runs: dict[Key, Played] = {}
        self._names: set[tuple[str, str, int, int]] = set()
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"cannot read the results {path}: {error}; choose another --out") from error
        for number, line in enumerate(lines, 1):
            try:
                fields = json.loads(line) if line.endswith("\n") else None
                run = None if fields is None else Played(**{**fields, "curve": tuple(_number(v) for v in fields["curve"])})
            except (ValueError, TypeError, KeyError) as error:
                raise FileError(
                    f"{path} is damaged in line {number} or no results of a benchmark; choose another --out"
                ) from error
            if run is not None:
                self._keep(run)
        if lines and not lines[-1].endswith("\n"):
            with path.open("rb+") as file:
                file.truncate(sum(len(line.encode()) for line in lines[:-1]))

    def _keep(self, run: Played) -> None:
        names = run.task, run.strategy, run.seed, run.evaluations
        self._names.add(names)
        self.runs[(*names, run.fingerprint)] = run

    def __contains__(self, key: Key) -> bool:
        return key in self.runs

    def outdated(self, task: Task, name: str, seed: int, evaluations: int) -> bool:
        """Whether such a run is stored, but of another table, version or revision."""
        found = run_key(task, name, seed, evaluations)
        return found[:-1] in self._names and found not in self.runs

    def add(self, run: Played) -> None:
        """Keep a run, on the disk too where there is a file. Raises FileError."""
        self._keep(run)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line(run))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}; choose another --out") from error


def line(run: Played) -> str:
    """A run as a line of the file of `Results`."""
    fields: dict[str, Any] = {**asdict(run), "curve": [None if math.isnan(v) else v for v in run.curve]}
    return json.dumps(fields) + "\n"


def open_runs(
    tasks: Sequence[Task], names: Sequence[str], seeds: Iterable[int], evaluations: int, known: Results
) -> Iterator[tuple[Task, str, int]]:
    """The runs that are asked for and not known, seed by seed, so that a stopped benchmark has some of everything."""
    for seed in seeds:
        for task in tasks:
            for name in names:
                if run_key(task, name, seed, evaluations) not in known:
                    yield task, name, seed


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
