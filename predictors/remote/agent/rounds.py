"""The measuring, as `nas.predictors.measure` does it: warm, interleaved, against an anchor, until it is narrow enough."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nas.errors import MeasurementError
from nas.predictors.machine import MachineState, interruptions, machine_state, pinned
from nas.predictors.remote.agent.jobs import Job, Timed
from nas.predictors.remote.agent.registry import Run, reason
from nas.predictors.timings import SLOWED, Visit, drift_factors, steady, summarise_visits

CLOCK_SHARE = 1e-3
VISIT_SECONDS = 0.006
WARMUP_BLOCKS = 20
COOLING_STEP = 1.0


class NetworkFailedError(MeasurementError):
    """The `position`-th network of a job is refused by the runtime, or stopped running."""

    def __init__(self, message: str, position: int | None) -> None:
        super().__init__(message)
        self.position = position


@dataclass(slots=True)
class Series:
    """The visits of one workload; `position` among the networks, None for the anchor."""

    run: Run
    position: int | None = None
    repeats: int = 1
    visits: list[Visit] = field(default_factory=list)
    done: bool = False


def interleave(runs: Sequence[Run], beside: Run, job: Job) -> Timed:
    """Visit the anchor `beside`, A, B, ..., B, A in every round, on the same cores.

    A run is left out once half the 95 % interval of its median is at most `narrow` of it; all end after `seconds` a run, but
    not before the job's rounds are done. Raises NetworkFailedError where a run does.
    """
    series, anchor = [Series(run, position) for position, run in enumerate(runs)], Series(beside)
    with pinned(job.threads) as cpus, undisturbed():
        state, overhead = machine_state(cpus), clock_overhead()
        for item in (*series, anchor):
            warm(item, overhead, state)
        if job.reference is not None:
            cool_down(anchor, job.reference, job.cooling)
        deadline = time.perf_counter() + job.seconds * len(runs)
        while len(anchor.visits) < job.rounds or not all(item.done for item in series):
            number, state = len(anchor.visits), machine_state(cpus)
            visit(anchor, number, state)
            active = [item for item in series if not item.done]
            for item in active + active[::-1]:
                visit(item, number, state)
            late = time.perf_counter() > deadline
            for item in active:
                item.done = number + 1 >= job.rounds and (late or _width(item, anchor, job.reference) <= job.narrow)
    return Timed([item.visits for item in series], anchor.visits)


def warm(item: Series, overhead: float, state: MachineState) -> None:
    """Run until successive block medians agree, and settle how many runs one reading of the clock covers."""
    middles: list[float] = []
    while len(middles) < WARMUP_BLOCKS and not steady(middles):
        middles.append(visit(item, 0, state))
    item.repeats = max(1, math.ceil(overhead / CLOCK_SHARE / max(min(middles), overhead)))
    item.visits.clear()


def cool_down(anchor: Series, reference: float, limit: float) -> None:
    """Wait, at most `limit` seconds, while the anchor is slower than SLOWED times the reference."""
    end = time.monotonic() + limit
    while time.monotonic() < end and visit(anchor, 0, MachineState()) > SLOWED * reference:
        time.sleep(min(COOLING_STEP, limit))
    anchor.visits.clear()


def visit(item: Series, number: int, state: MachineState) -> float:
    """Time runs for about VISIT_SECONDS, at least three readings, and remember them; their median (seconds)."""
    found: list[float] = []
    clock, run, at = time.perf_counter, item.run, time.time()
    try:
        before = interruptions()
        end = clock() + VISIT_SECONDS
        while len(found) < 3 or clock() < end:
            start = clock()
            for _ in range(item.repeats):
                run()
            found.append((clock() - start) / item.repeats)
    except Exception as error:
        raise NetworkFailedError(f"it stopped running: {reason(error)}", item.position) from error
    after = interruptions()
    times = None if before is None or after is None else after - before
    item.visits.append(Visit(at, number, tuple(found), times, state))
    return sorted(found)[len(found) // 2]


def clock_overhead() -> float:
    """Seconds that one reading of the clock takes."""
    start = time.perf_counter()
    for _ in range(1000):
        time.perf_counter()
    return (time.perf_counter() - start) / 1000


def anchor_factors(anchor: Sequence[Visit], reference: float | None) -> list[float]:
    """By round, how much slower than the reference (default: its median now) the anchor ran."""
    return drift_factors([sorted(item.seconds)[len(item.seconds) // 2] for item in anchor], reference=reference)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Without garbage collection, which would fall into some runs and not into others."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _width(item: Series, anchor: Series, reference: float | None) -> float:
    return summarise_visits(item.visits, anchor_factors(anchor.visits, reference), "", 1).precision
