"""`run_search`: ask, evaluate, record, tell. The same for every strategy and every executor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from nas.search.archive import Archive
from nas.search.executors.base import Executor, Metrics, WorkersLostError
from nas.search.proposal import SpaceExhausted
from nas.search.strategy import Strategy
from nas.search.types import COMPLETE, FAILED, Problem, Trial, best, merit
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
) -> None:
    """Fill the archive up to `evaluations` trials, those of an earlier run included.

    The strategy is told the stored history; then `executor.workers` candidates are kept in flight, and each is recorded when
    it is done. Numbers without a record (a killed run's candidates in flight) are asked again. An evaluation that raises is
    recorded as a failed trial. Ends early, with the archive whole, where the space is exhausted or `should_stop()` is true
    (what is in flight is still recorded). KeyboardInterrupt, InfeasibleError and WorkersLostError pass through; what is in
    flight is dropped then, and asked again on resume.

    `progress(done, total, best)` is called once at the start and after every trial.
    """
    archive.claim()
    history = archive.trials()
    strategy.tell(history)
    _Search(problem, strategy, archive, executor, evaluations, progress, should_stop).run()


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
    ) -> None:
        self.problem, self.strategy, self.archive, self.executor = problem, strategy, archive, executor
        self.evaluations, self.progress, self.should_stop = evaluations, progress, should_stop
        self.running: dict[Future[Metrics], _Running] = {}
        self.best = best(archive.trials(), problem.budgets)
        self.ended = False

    def run(self) -> None:
        """Until every number is recorded, or the search ends early."""
        numbers = (number for number in range(self.evaluations) if number not in self.archive)
        self.report()
        try:
            self.fill(numbers)
            while self.running:
                done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: self.running[one].number):
                    self.record(self.running.pop(future), future)
                self.fill(numbers)
        finally:
            for future in self.running:
                future.cancel()

    def fill(self, numbers: Iterator[int]) -> None:
        """Ask for candidates until all workers are busy."""
        while not self.ended and len(self.running) < self.executor.workers:
            if self.should_stop is not None and self.should_stop():
                self.ended = True
                return
            number = next(numbers, None)
            if number is None:
                return
            pending = [one.architecture for one in self.running.values()]
            try:
                architecture = self.strategy.ask(number, pending)
            except SpaceExhausted:
                self.ended = True
                return
            started = time.monotonic()
            self.running[self.executor.submit(number, architecture)] = _Running(number, architecture, started)

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
        trial = Trial(one.number, one.architecture, COMPLETE if error is None else FAILED, metrics, error, repeat)
        self.archive.add(trial)
        self.strategy.tell([trial])
        if trial.complete and self.problem.budgets.violation(metrics) == 0.0:
            self.best = trial if self.best is None else min(self.best, trial, key=merit)
        self.report()

    def missing(self, metrics: Metrics) -> str | None:
        """What is wrong with the metrics of an evaluation that raised nothing."""
        for name in self.problem.objectives:
            if not math.isfinite(metrics.get(name, math.nan)):
                return f"the evaluation gave {name}={metrics.get(name)}, which is no finite number"
        return None

    def report(self) -> None:
        """Tell the caller how far the search is."""
        if self.progress is not None:
            self.progress(len(self.archive), self.evaluations, self.best)
