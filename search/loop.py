"""`run_search`: ask, evaluate, record, tell. The same for every strategy and every executor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from nas.search.archive import Archive
from nas.search.executors.base import Executor, Metrics, WorkersLostError
from nas.search.proposal import SpaceExhausted
from nas.search.screening import Bars, Screening
from nas.search.strategy import Strategy
from nas.search.types import COMPLETE, FAILED, PASSED_OVER, SCREENED, Problem, Trial, best, merit
from nas.search_spaces.architecture import Architecture

Progress = Callable[[int, int, Trial | None], None]
POLL = 0.5


@dataclass(frozen=True, slots=True)
class _Running:
    number: int
    architecture: Architecture
    started: float


def run_search(
    problem: Problem,
    strategy: Strategy,
    archive: Archive,
    executor: Executor,
    *,
    evaluations: int,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    screening: Screening | None = None,
) -> None:
    """Fill the archive up to `evaluations` trials, those of an earlier run included.

    The strategy is told the stored history; then `executor.workers` candidates are kept in flight, and each is recorded when
    it is done. Numbers without a record (a killed run's candidates in flight) are asked again. An evaluation that raises is
    recorded as a failed trial. Other processes may work on the same archive where it is a database: each candidate is evaluated
    by one of them, and all learn of it. Ends early, with the archive whole, where the space is exhausted or `should_stop()` is
    true (what is in flight is still recorded). KeyboardInterrupt, InfeasibleError and WorkersLostError pass through; what is in
    flight is dropped then, and asked again on resume.

    With `screening` the evaluator is handed a bar that the cheap score must reach for a full one. Only what is scored in full
    can be best.

    `progress(done, total, best)` is called once at the start and after every trial.
    """
    archive.claim()
    history = archive.trials()
    strategy.tell(history)
    _Search(problem, strategy, archive, executor, evaluations, progress, should_stop, screening).run()


class _Search:
    """The state of one run of the loop."""

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy,
        archive: Archive,
        executor: Executor,
        evaluations: int,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
        screening: Screening | None,
    ) -> None:
        self.problem, self.strategy, self.archive, self.executor = problem, strategy, archive, executor
        self.evaluations, self.progress, self.should_stop = evaluations, progress, should_stop
        self.bars = None if screening is None else Bars(screening, problem, archive.trials())
        self.running: dict[Future[Metrics], _Running] = {}
        self.best = best(archive.trials(), problem.budgets)
        self.ended = False
        self.first = 0
        self.elsewhere: dict[int, Architecture] = {}

    def run(self) -> None:
        """Until every number is recorded, or the search ends early."""
        self.report()
        try:
            self.fill()
            while self.running or self.elsewhere:
                done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED) if self.running else (set(), None)
                for future in sorted(done, key=lambda one: self.running[one].number):
                    self.record(self.running.pop(future), future)
                if not self.running and self.elsewhere:
                    time.sleep(POLL)
                self.fill()
        finally:
            for future in self.running:
                future.cancel()

    def fill(self) -> None:
        """Ask for candidates until all workers are busy, or nothing is left that no other process is at."""
        self.hear()
        while not self.ended and len(self.running) < self.executor.workers:
            if self.should_stop is not None and self.should_stop():
                self.ended = True
                return
            number = self.open_number()
            if number is None:
                return
            pending = [*(one.architecture for one in self.running.values()), *self.elsewhere.values()]
            try:
                architecture = self.strategy.ask(number, pending)
            except SpaceExhausted:
                self.ended = True
                return
            if self.archive.reserve(number, architecture):
                started = time.monotonic()
                self.running[self.submit(number, architecture)] = _Running(number, architecture, started)
            else:
                self.hear()

    def hear(self) -> None:
        """Learn what other processes on the same storage have recorded, and what they are evaluating."""
        if not self.archive.shared:
            return
        self.elsewhere = self.archive.elsewhere()
        found = self.archive.refresh()
        if found:
            self.tell(found)
            self.best = best([*found, *([self.best] if self.best else [])], self.problem.budgets)
            self.report()
        if self.ended:
            self.elsewhere = {}

    def open_number(self) -> int | None:
        """The lowest number that is neither recorded nor being evaluated."""
        taken = {one.number for one in self.running.values()} | self.elsewhere.keys()
        while self.first in self.archive:
            self.first += 1
        open_numbers = (n for n in range(self.first, self.evaluations) if n not in self.archive and n not in taken)
        return next(open_numbers, None)

    def submit(self, number: int, architecture: Architecture) -> Future[Metrics]:
        """Hand a candidate out, with the bar of its cheap score where candidates are screened."""
        if self.bars is None:
            return self.executor.submit(number, architecture)
        return self.executor.submit(number, architecture, self.bars.of(number, architecture))

    def record(self, one: _Running, future: Future[Metrics]) -> None:
        """Store and tell a finished candidate."""
        metrics: dict[str, float] = {**self.problem.cheap(one.architecture), "seconds": time.monotonic() - one.started}
        error = None
        try:
            metrics.update(future.result())
            error = self.missing(metrics)
        except WorkersLostError:
            raise
        except Exception as raised:  # an evaluation may raise anything; its trial keeps the message
            error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
        repeat = min(self.archive.count(one.architecture.digest), self.problem.repeats)
        trial = Trial(one.number, one.architecture, _state(metrics, error), metrics, error, repeat)
        self.archive.add(trial)
        self.tell([trial])
        if trial.full and self.problem.budgets.violation(metrics) == 0.0:
            self.best = trial if self.best is None else min(self.best, trial, key=merit)
        self.report()

    def tell(self, trials: list[Trial]) -> None:
        """Let the strategy and the bars learn of finished trials."""
        self.strategy.tell(trials)
        if self.bars is not None:
            self.bars.tell(trials)

    def missing(self, metrics: Metrics) -> str | None:
        """What is wrong with the metrics of an evaluation that raised nothing; one that scored nothing owes no scores."""
        for name in self.problem.objectives:
            if metrics.get("fidelity", 1.0) <= 0.0 and name not in metrics:
                continue
            if not math.isfinite(metrics.get(name, math.nan)):
                return f"the evaluation gave {name}={metrics.get(name)}, which is no finite number"
        return None

    def report(self) -> None:
        """Tell the caller how far the search is."""
        if self.progress is not None:
            self.progress(len(self.archive), self.evaluations, self.best)


def _state(metrics: Metrics, error: str | None) -> str:
    fidelity = metrics.get("fidelity", 1.0)
    if error is not None:
        return FAILED
    return COMPLETE if fidelity >= 1.0 else SCREENED if fidelity > 0.0 else PASSED_OVER
