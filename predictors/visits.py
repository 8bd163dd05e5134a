"""One workload's visits: warming it up, timing it, and telling where it stopped running."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nas.errors import MeasurementError
from nas.predictors.machine import MachineState, interruptions
from nas.predictors.timings import Visit, steady
from nas.predictors.tracing import first_cause

CLOCK_SHARE = 1e-3
VISIT_SECONDS = 0.006
WARMUP_BLOCKS = 20


class RunFailedError(MeasurementError):
    """A prepared network, the `position`-th of those measured, stopped running: a full memory, a device that is gone."""

    def __init__(self, message: str, position: int | None) -> None:
        super().__init__(message)
        self.position = position


@dataclass(slots=True)
class Series:
    """The visits of one workload; `position` among those measured, None for the anchor. `settled`: its warm-up ended steady."""

    run: Callable[[], object]
    position: int | None = None
    repeats: int = 1
    visits: list[Visit] = field(default_factory=list)
    done: bool = False
    settled: bool = True


def warm(item: Series, state: MachineState) -> None:
    """Run until block medians agree, at most WARMUP_BLOCKS, and settle how many runs one reading of the clock covers."""
    middles: list[float] = []
    while len(middles) < WARMUP_BLOCKS and not steady(middles):
        middles.append(visit(item, 0, state))
    item.settled = steady(middles)
    item.repeats = max(1, math.ceil(_clock_overhead() / CLOCK_SHARE / min(middles)))
    item.visits.clear()


def visit(item: Series, number: int, state: MachineState) -> float:
    """Time runs for about VISIT_SECONDS, at least three readings, and remember them; their median."""
    found: list[float] = []
    clock, run, at, before = time.perf_counter, item.run, time.time(), interruptions()
    end = clock() + VISIT_SECONDS
    try:
        while len(found) < 3 or clock() < end:
            start = clock()
            for _ in range(item.repeats):
                run()
            found.append((clock() - start) / item.repeats)
    except Exception as error:  # whatever the library behind the runtime raises
        raise RunFailedError(f"a network stopped running: {first_cause(error)}", item.position) from error
    after = interruptions()
    times = None if before is None or after is None else after - before
    item.visits.append(Visit(at, number, tuple(found), times, state, item.settled))
    return sorted(found)[len(found) // 2]


_OVERHEAD: list[float] = []


def _clock_overhead() -> float:
    """Seconds that one reading of the clock takes; measured once."""
    if not _OVERHEAD:
        start = time.perf_counter()
        for _ in range(1000):
            time.perf_counter()
        _OVERHEAD.append((time.perf_counter() - start) / 1000)
    return _OVERHEAD[0]
