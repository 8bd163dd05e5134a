"""Measuring several workloads so that they can be compared: warm, in turn, beside an anchor, until it is narrow enough.

Free of PyTorch: this machine and a measuring agent elsewhere measure by the same code.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas.errors import UsageError
from nas.predictors.allocator import memory_kept
from nas.predictors.machine import MachineState, machine_state, pinned
from nas.predictors.timings import SLOWED, summarise_visits
from nas.predictors.visits import Series, visit, warm

COOLING_STEP = 1.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: `rounds` visits of each network there and back at least, however long they take, else at most
    `seconds` a network, and no longer than until half the 95 % interval is at most `precision` of the median. Where the
    machine is slower than the reference, it is given at most `cooling` seconds to recover first."""

    seconds: float = 2.0
    rounds: int = 4
    precision: float = 0.01
    cooling: float = 0.0

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.rounds >= 1 and self.precision >= 0 and self.cooling >= 0):
            raise UsageError(f"{self}: give a time above zero, at least one round and a precision of 0 or more")


def interleave(
    series: Sequence[Series],
    anchor: Series,
    threads: int,
    effort: Effort,
    reference: float | None = None,
    part: float = 1.0,
) -> None:
    """Visit the anchor, A, B, ..., B, A in every round, on the same cores; the visits are left in the series.

    `reference` is the anchor's time (seconds) at which the machine counts as undisturbed; by default its median now. Of
    the logarithm of its slowness networks feel `part`. Without any series the anchor alone is visited, once a
    round. Raises RunFailedError where a run fails.
    """
    with pinned(threads) as cpus, undisturbed():
        for item in (*series, anchor):
            warm(item)
        if reference is not None:
            _cool_down(anchor, reference, effort.cooling)
        deadline = time.perf_counter() + effort.seconds * len(series)
        while len(anchor.visits) < effort.rounds or not all(item.done for item in series):
            number, state = len(anchor.visits), machine_state(cpus)
            visit(anchor, number, state)
            active = [item for item in series if not item.done]
            for item in active + active[::-1]:
                visit(item, number, state, anchor)
            late = time.perf_counter() > deadline
            for item in active:
                item.done = number + 1 >= effort.rounds and (late or _width(item, anchor, reference, part) <= effort.precision)


def _cool_down(anchor: Series, reference: float, limit: float) -> None:
    """Wait, at most `limit` seconds, while the anchor is slower than SLOWED times the reference."""
    end = time.monotonic() + limit
    while time.monotonic() < end and visit(anchor, 0, MachineState()) > SLOWED * reference:
        time.sleep(min(COOLING_STEP, limit))
    anchor.visits.clear()


@contextlib.contextmanager
def undisturbed(oldest: int = 2) -> Iterator[None]:
    """Without garbage collection, which would fall into some runs and not into others, and with what runs free kept for the
    next ones. Garbage is collected before, up to the `oldest` generation: all of it takes a third of a second."""
    enabled = gc.isenabled()
    gc.collect(oldest)
    gc.disable()
    try:
        with memory_kept():
            yield
    finally:
        if enabled:
            gc.enable()


def _width(item: Series, anchor: Series, reference: float | None, part: float) -> float:
    return summarise_visits(item.visits, anchor.visits, "", 1, reference=reference, part=part).precision
