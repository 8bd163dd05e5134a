"""Measuring latency so that the number can be believed: warm, interleaved, against an anchor, until it is narrow enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError, NasError
from nas.predictors.anchor import anchor
from nas.predictors.interleaving import Effort, interleave
from nas.predictors.quiet import summarise_group
from nas.predictors.remote.place import place
from nas.predictors.runtime import runtime
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.predictors.timings import MAX_SPREAD, Measurement, Speed, Visit, anchor_median, noise_reasons, usual_part
from nas.predictors.tracing import first_cause
from nas.predictors.visits import Series

Run = Callable[[], object]
Watch = Callable[[int | None, Sequence[Visit]], None]
"""Is given the visits of every run, by its position, and of the anchor (None): the raw samples."""


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
    speed: Speed | None = None,
) -> Measurement:
    """The latency of one network on square images of `resolution`, in seconds for a batch; `speed` as for `measure_many`.

    Stops when half the 95 % interval of the median is at most `precision` of it, or after `budget_seconds`, but not before
    eight visits: an interval of fewer says little. Raises MeasurementError where the device is missing, the network cannot
    run, or the runs spread by more than `max_spread` (interquartile range / median) and `accept_noise` is off.
    """
    effort = Effort(budget_seconds, precision=precision)
    found = measure_many([model], target, resolution, in_channels=in_channels, effort=effort, seed=seed, speed=speed)[0]
    if found.spread > max_spread and not accept_noise:
        reasons = ", ".join(noise_reasons(found)) or "why cannot be told"
        raise MeasurementError(
            f"the runs on {target} spread by {found.spread:.0%} of their median (limit {max_spread:.0%}): {reasons}; "
            "let the machine rest and measure again, or accept the noise explicitly"
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
    speed: Speed | None = None,
) -> list[Measurement]:
    """The latencies of several networks, interleaved: fairer to compare than one after another.

    `resolution` is one for all or one for each; times are told at `speed`, by default at that of the machine now. Noise is
    recorded in `spread`, not refused. Raises MeasurementError where the device is missing or a network cannot run.
    """
    target.require()
    sides = [resolution] * len(models) if isinstance(resolution, int) else list(resolution)
    with threads(target.threads):
        runs = [prepare(model, target, side, in_channels) for model, side in zip(models, sides, strict=True)]
        return measure_runs(runs, target, sides, effort=effort or Effort(), seed=seed, speed=speed)


def measure_runnable(
    models: Sequence[nn.Module],
    target: Target,
    resolutions: Sequence[int],
    *,
    in_channels: int = 3,
    effort: Effort,
    speed: Speed | None = None,
) -> list[Measurement | None]:
    """`measure_many` with None for every network that the target refuses. Raises MeasurementError where it refuses all.

    Where it refuses one, the others are measured one after another instead of interleaved.
    """

    def measured(chosen: Sequence[nn.Module], sides: Sequence[int]) -> list[Measurement]:
        return measure_many(chosen, target, sides, in_channels=in_channels, effort=effort, speed=speed)

    try:
        return list(measured(models, resolutions))
    except MeasurementError as refusal:
        found: list[Measurement | None] = []
        for model, side in zip(models, resolutions, strict=True):
            try:
                found += measured([model], [side])
            except MeasurementError:
                found.append(None)
        if not any(found):
            raise refusal
        return found


def prepare(model: nn.Module | Path, target: Target, resolution: int, in_channels: int = 3) -> Run:
    """A function that runs the network once on the target, on one fixed batch of noise. Raises MeasurementError."""
    return checked(model, noise(target, resolution, in_channels), target)


def noise(target: Target, resolution: int, in_channels: int) -> Tensor:
    """The batch that networks are timed on: always the same noise, (batch, in_channels, resolution, resolution)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(target.batch, in_channels, resolution, resolution, generator=generator)


def checked(model: nn.Module | Path, example: Tensor, target: Target) -> Run:
    """`Runtime.prepare`, with MeasurementError for whatever the library behind the runtime raises; elsewhere, the place's."""
    if target.place:
        return place(target.place).prepare(model, example, target)
    try:
        return runtime(target.runtime).prepare(model, example, target)
    except NasError:
        raise
    except Exception as error:
        raise MeasurementError(f"runtime {target.runtime!r} cannot run the network: {first_cause(error)}") from error


def run_once(model: nn.Module | Path, example: Tensor, target: Target) -> None:
    """Prepare a network and run it. Raises MeasurementError where either fails, whatever the library behind it raises."""
    run = checked(model, example, target)
    try:
        run()
    except Exception as error:
        raise MeasurementError(f"runtime {target.runtime!r} cannot run the network: {first_cause(error)}") from error


def measure_runs(
    runs: Sequence[Run],
    target: Target,
    resolutions: Sequence[int],
    *,
    effort: Effort,
    seed: int = 0,
    speed: Speed | None = None,
    watch: Watch | None = None,
) -> list[Measurement]:
    """The times of prepared runs, visited in the order anchor, A, B, ..., B, A in every round, on the same cores.

    Times are told at `speed`, at which the machine counts as undisturbed; by default at that of the machine now. `watch` is
    given all visits, also where one of the runs fails. Raises RunFailedError then.
    """
    if not runs:
        return []
    if target.place:
        return place(target.place).measure_runs(runs, target, resolutions, effort=effort, seed=seed, speed=speed, watch=watch)
    series = [Series(run, position) for position, run in enumerate(runs)]
    beside = Series(anchor(target))
    reference, known = (None, None) if speed is None else (speed.anchor, speed.part)
    try:
        with threads(target.threads):
            part = usual_part(str(target)) if known is None else known
            interleave(series, beside, target.threads, effort, reference, part)
    finally:
        if watch is not None:
            for item in (beside, *series):
                watch(item.position, item.visits)
    return summarise_group([item.visits for item in series], beside.visits, str(target), resolutions, seed, speed)


def anchor_seconds(target: Target, rounds: int = 20) -> float:
    """The anchor's median time on the target now, in seconds."""
    target.require()
    if target.place:
        return place(target.place).anchor_seconds(target, rounds)
    beside = Series(anchor(target))
    with threads(target.threads):
        interleave([], beside, target.threads, Effort(rounds=rounds))
    return anchor_median(beside.visits)
