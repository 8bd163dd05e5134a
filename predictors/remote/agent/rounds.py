"""The measuring, as `nas.predictors.measure` does it: warm, interleaved, against an anchor, until it is narrow enough."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nas.predictors.remote.agent.jobs import Timed
from nas.predictors.remote.agent.registry import Run
from nas.predictors.timings import drift_factors, steady, summarise

CLOCK_SHARE = 1e-3
VISIT_SECONDS = 0.006
WARMUP_BLOCKS = 20


@dataclass(slots=True)
class Series:
    """The visits of one workload: seconds of single runs, and during which round each visit was."""

    run: Run
    repeats: int = 1
    visits: list[list[float]] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    done: bool = False


def interleave(
    runs: Sequence[Run],
    beside: Run,
    *,
    seconds: float,
    rounds: int,
    narrow: float,
    reference: float | None = None,
) -> Timed:
    """Visit the anchor `beside`, A, B, ..., B, A in every round; `rounds` of them at least.

    A run is left out once half the 95 % interval of its median is at most `narrow` of it; all end after `seconds` a run, but
    not before the rounds are done.
    """
    with undisturbed():
        overhead = clock_overhead()
        series = [warm(run, overhead) for run in runs]
        anchor = warm(beside, overhead)
        anchors: list[float] = []
        deadline = time.perf_counter() + seconds * len(runs)
        while len(anchors) < rounds or not all(item.done for item in series):
            anchors.append(visit(anchor, len(anchors)))
            active = [item for item in series if not item.done]
            for item in active + active[::-1]:
                visit(item, len(anchors) - 1)
            late = time.perf_counter() > deadline
            for item in active:
                item.done = len(anchors) >= rounds and (late or _width(item, anchors, reference) <= narrow)
    return Timed([item.visits for item in series], [item.rounds for item in series], anchors)


def warm(run: Run, overhead: float) -> Series:
    """Run until successive block medians agree, and settle how many runs one reading of the clock covers."""
    item = Series(run)
    middles: list[float] = []
    while len(middles) < WARMUP_BLOCKS and not steady(middles):
        middles.append(visit(item, 0))
    item.repeats = max(1, math.ceil(overhead / CLOCK_SHARE / max(min(middles), overhead)))
    item.visits.clear()
    item.rounds.clear()
    return item


def visit(item: Series, number: int) -> float:
    """Time runs for about VISIT_SECONDS, at least three readings, and remember them; their median (seconds)."""
    found: list[float] = []
    clock, run = time.perf_counter, item.run
    run()  # whatever ran before has emptied the caches: this one is not counted
    end = clock() + VISIT_SECONDS
    while len(found) < 3 or clock() < end:
        start = clock()
        for _ in range(item.repeats):
            run()
        found.append((clock() - start) / item.repeats)
    item.visits.append(found)
    item.rounds.append(number)
    return sorted(found)[len(found) // 2]


def clock_overhead() -> float:
    """Seconds that one reading of the clock takes."""
    start = time.perf_counter()
    for _ in range(1000):
        time.perf_counter()
    return (time.perf_counter() - start) / 1000


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


def _width(item: Series, anchors: list[float], reference: float | None) -> float:
    factors = drift_factors(anchors, reference=reference)
    return summarise(item.visits, [factors[number] for number in item.rounds], "", 1).precision
