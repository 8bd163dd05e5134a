"""One workload's visits: warming it up, timing it beside the anchor, and telling where it stopped running.

A machine changes its speed within milliseconds: other guests of its processor, its clock, heat. So the anchor runs just before
and just after what is timed, and each time is told by the anchor's then. It runs twice and its second run counts: the first one
finds the caches full of other data, the more the larger the network was. Free of PyTorch: a measuring agent has none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nas.errors import MeasurementError, in_one_line
from nas.predictors.machine import MachineState, interruptions
from nas.predictors.timings import Visit, steady

CLOCK_SHARE = 1e-3
VISIT_SECONDS = 0.006
APART, LEAD, LARGE = 0.003, 0.002, 0.02
"""Seconds between two runs of the anchor, or one run of what is timed where that takes longer; and those of runs before, one of
them at least, which fill the caches after the anchor and do not count. What takes longer than LARGE notices little of what the
caches held, and has one run before it once a visit."""
WARMUP_BLOCKS = 20


class RunFailedError(MeasurementError):
    """A network, the `position`-th of those measured (None: the anchor), is refused or stopped running: a full memory, a device
    that is gone."""

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

    def once(self) -> float:
        """The seconds of one run, by one reading of the clock for `repeats` of them. Raises RunFailedError."""
        clock, run = time.perf_counter, self.run
        start = clock()
        try:
            for _ in range(self.repeats):
                run()
        except Exception as error:  # whatever the library behind the runtime raises
            what = "the anchor" if self.position is None else "it"
            raise RunFailedError(f"{what} stopped running: {in_one_line(error)}", self.position) from error
        return (clock() - start) / self.repeats

    def again(self) -> float:
        """The seconds of one run right after another: what ran before left its data in the caches. Raises RunFailedError."""
        self.once()
        return self.once()


def warm(item: Series) -> None:
    """Run until block medians agree, at most WARMUP_BLOCKS, and settle how many runs one reading of the clock covers."""
    middles: list[float] = []
    while len(middles) < WARMUP_BLOCKS and not steady(middles):
        middles.append(_block(item))
    item.settled = steady(middles)
    overhead = clock_overhead()
    item.repeats = max(1, math.ceil(overhead / CLOCK_SHARE / max(min(middles), overhead)))


def _block(item: Series) -> float:
    """The median of runs right after each other for about VISIT_SECONDS, at least three (seconds)."""
    end, found = time.perf_counter() + VISIT_SECONDS, list[float]()
    while len(found) < 3 or time.perf_counter() < end:
        found.append(item.once())
    return sorted(found)[len(found) // 2]


def visit(item: Series, number: int, state: MachineState, anchor: Series | None = None) -> float:
    """Time runs for about VISIT_SECONDS, at least three readings, and remember them; their median (seconds).

    With an `anchor` it runs first, last, and whenever APART has passed since; each reading is kept with the mean of the
    anchor's times before and after it.
    """
    found: list[float] = []
    beside: list[float] = []
    clock, at, interrupted = time.perf_counter, time.time(), interruptions()
    before = anchor.again() if anchor else 0.0
    end = clock() + LEAD + VISIT_SECONDS
    last = item.once()
    while len(found) < 3 or clock() < end:
        last = _lead(item, last)
        until = clock() + APART
        block = [item.once()]
        while clock() < until - block[-1] / 2:
            block.append(item.once())
        found, last = found + block, block[-1]
        if anchor:
            after = anchor.again()
            beside += [(before + after) / 2] * len(block)
            before = after
    since = interruptions()
    times = None if interrupted is None or since is None else since - interrupted
    item.visits.append(Visit(at, number, tuple(found), times, state, item.settled, tuple(beside)))
    return sorted(found)[len(found) // 2]


def _lead(item: Series, last: float) -> float:
    """Fill the caches with what a workload reads, unless its `last` run tells that it is large; the seconds of the last run."""
    end = time.perf_counter() + LEAD
    if last < LARGE:
        last = item.once()
        while time.perf_counter() < end:
            last = item.once()
    return last


_OVERHEAD: list[float] = []


def clock_overhead() -> float:
    """Seconds that one reading of the clock takes; measured once."""
    if not _OVERHEAD:
        start = time.perf_counter()
        for _ in range(1000):
            time.perf_counter()
        _OVERHEAD.append((time.perf_counter() - start) / 1000)
    return _OVERHEAD[0]
