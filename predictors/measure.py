"""Measuring latency so that the number can be believed: warm, interleaved, against an anchor, until it is narrow enough."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from nas.errors import MeasurementError, UsageError
from nas.predictors.anchor import anchor
from nas.predictors.remote.place import place
from nas.predictors.runtime import runtime
from nas.predictors.target import Target
from nas.predictors.timings import MAX_SPREAD, Measurement, drift_factors, steady, summarise

Run = Callable[[], object]
CLOCK_SHARE = 1e-3
VISIT_SECONDS = 0.006
WARMUP_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: at most `seconds` a network, at least `rounds` visits of it there and back, and no longer than
    until half the 95 % interval is at most `precision` of the median."""

    seconds: float = 2.0
    rounds: int = 4
    precision: float = 0.01

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.rounds >= 1 and self.precision >= 0):
            raise UsageError(f"{self}: give a time above zero, at least one round and a precision of 0 or more")


@dataclass(slots=True)
class _Series:
    """The visits of one workload: seconds of single runs, and during which round each visit was."""

    run: Run
    repeats: int = 1
    visits: list[list[float]] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    done: bool = False


def measure(
    model: nn.Module | Path,
    target: Target,
    resolution: int,
    *,
    in_channels: int = 3,
    budget_seconds: float = 2.0,
    precision: float = 0.01,
    accept_noise: bool = False,
    max_spread: float = MAX_SPREAD,
    seed: int = 0,
) -> Measurement:
    """The latency of one network on square images of `resolution`, in seconds for a batch.

    Stops when half the 95 % interval of the median is at most `precision` of it, or after `budget_seconds`. Raises
    MeasurementError where the device is missing, the network cannot run, or the runs spread by more than `max_spread`
    (interquartile range / median) and `accept_noise` is off.
    """
    effort = Effort(budget_seconds, precision=precision)
    found = measure_many([model], target, resolution, in_channels=in_channels, effort=effort, seed=seed)[0]
    if found.spread > max_spread and not accept_noise:
        raise MeasurementError(
            f"the runs on {target} spread by {found.spread:.0%} of their median (limit {max_spread:.0%}): something else "
            "uses the machine; stop it and measure again, or accept the noise explicitly"
        )
    return found


def measure_many(
    models: Sequence[nn.Module | Path],
    target: Target,
    resolution: int | Sequence[int],
    *,
    in_channels: int = 3,
    effort: Effort | None = None,
    seed: int = 0,
    reference: float | None = None,
) -> list[Measurement]:
    """The latencies of several networks, interleaved: fairer to compare than one after another.

    `resolution` is one for all or one for each; `reference` as for `measure_runs`. Noise is recorded in `spread`, not
    refused. Raises MeasurementError where the device is missing or a network cannot run.
    """
    target.require()
    sides = [resolution] * len(models) if isinstance(resolution, int) else list(resolution)
    if target.place:
        return place(target.place).measure(
            models, target, sides, in_channels=in_channels, effort=effort or Effort(), seed=seed, reference=reference
        )
    with threads(target.threads):
        runs = [prepare(model, target, side, in_channels) for model, side in zip(models, sides, strict=True)]
        return measure_runs(runs, target, sides, effort=effort or Effort(), seed=seed, reference=reference)


def prepare(model: nn.Module | Path, target: Target, resolution: int, in_channels: int = 3) -> Run:
    """A function that runs the network once on the target, on one fixed batch of noise."""
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(target.batch, in_channels, resolution, resolution, generator=generator)
    return runtime(target.runtime).prepare(model, example, target)


def measure_runs(
    runs: Sequence[Run],
    target: Target,
    resolutions: Sequence[int],
    *,
    effort: Effort,
    seed: int = 0,
    reference: float | None = None,
) -> list[Measurement]:
    """The times of prepared runs, visited in the order anchor, A, B, ..., B, A in every round.

    `reference` is the anchor's time (seconds) at which the machine counts as undisturbed; by default its median now.
    """
    if not runs:
        return []
    with threads(target.threads), quiet():
        series = [_warm(run) for run in runs]
        beside = _warm(anchor(target))
        anchors: list[float] = []
        deadline = time.perf_counter() + effort.seconds * len(runs)
        while not all(item.done for item in series):
            anchors.append(_visit(beside, len(anchors)))
            active = [item for item in series if not item.done]
            for item in active + active[::-1]:
                _visit(item, len(anchors) - 1)
            late = time.perf_counter() > deadline
            for item in active:
                item.done = late or (len(anchors) >= effort.rounds and _precise(item, anchors, effort, reference))
    factors = drift_factors(anchors, reference=reference)
    return [
        summarise(item.visits, [factors[i] for i in item.rounds], str(target), side, seed)
        for item, side in zip(series, resolutions, strict=True)
    ]


def anchor_seconds(target: Target, rounds: int = 20) -> float:
    """The anchor's median time on the target now, in seconds."""
    target.require()
    if target.place:
        return place(target.place).anchor_seconds(target, rounds)
    with threads(target.threads), quiet():
        beside = _warm(anchor(target))
        return sorted(_visit(beside, i) for i in range(rounds))[rounds // 2]


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch with `number` threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without garbage collection, which would fall into some runs and not into others."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _warm(run: Run) -> _Series:
    """Run until successive block medians agree, and settle how many runs one reading of the clock covers."""
    item = _Series(run)
    middles: list[float] = []
    while len(middles) < WARMUP_BLOCKS and not steady(middles):
        middles.append(_visit(item, 0))
    item.repeats = max(1, math.ceil(_clock_overhead() / CLOCK_SHARE / min(middles)))
    item.visits.clear()
    item.rounds.clear()
    return item


def _visit(item: _Series, number: int) -> float:
    """Time runs for about VISIT_SECONDS, at least three readings, and remember them; their median."""
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


def _precise(item: _Series, anchors: list[float], effort: Effort, reference: float | None) -> bool:
    factors = drift_factors(anchors, reference=reference)
    return summarise(item.visits, [factors[i] for i in item.rounds], "", 1).precision <= effort.precision


_OVERHEAD: list[float] = []


def _clock_overhead() -> float:
    """Seconds that one reading of the clock takes; measured once."""
    if not _OVERHEAD:
        start = time.perf_counter()
        for _ in range(1000):
            time.perf_counter()
        _OVERHEAD.append((time.perf_counter() - start) / 1000)
    return _OVERHEAD[0]
