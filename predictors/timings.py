"""Statistics of timings: pure functions of the recorded seconds, so that they are tested without a clock."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError
from nas.predictors.machine import MachineState

Array = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 1000
MAX_SPREAD = 0.25  # torch.utils.benchmark speaks of "significant environmental influence" from this IQR / median on
MIN_UNDISTURBED = 4
SLOWED = 1.15
FELT = 0.7
"""By so much of the logarithm of the anchor's slowness networks are slowed on a CPU that other guests use too, where nothing is
known of them: it was 0.5 to 1.2 (`nas.predictors.quiet`). Nodes timed on this machine for itself are always told so."""
DRIFTED = 0.25


def usual_part(target: str) -> float:
    """By how much of the logarithm of the anchor's slowness a target's networks are usually slowed: FELT on the CPU of this
    machine or of a node of a Ray cluster, all of it on other devices and at agents, where what changes is mostly the clock,
    which moves both alike."""
    device, _, rest = target.partition(":")
    return FELT if device == "cpu" and ("@" not in rest or "@ray:" in rest) else 1.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of a workload: when it began (seconds since 1970), in which round, the seconds of its single runs, how often
    other work interrupted them (None: not counted here), the machine at the time, whether the warm-up had settled, and the
    anchor's seconds just around each run (none of a visit without it)."""

    at: float
    round: int
    seconds: tuple[float, ...]
    interruptions: int | None
    state: MachineState
    settled: bool = True
    beside: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of a machine at which times are told: the anchor takes `anchor` seconds there, and networks feel `part` of the
    logarithm of how much slower it is at other times (None: nothing is known of it)."""

    anchor: float
    part: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one network on one target, in seconds.

    `median` is the median of visit medians, each run told by the anchor around it, `low` and `high` its 95 % bootstrap
    interval over visits, `quiet` the time on a quiet machine (`nas.predictors.quiet`; None where it was not taken), `p90` and
    `p99` quantiles of single runs, `n` their number, `spread` interquartile range / median of the runs, `drift` the range of
    the anchor workload during the measurement / its median. `target` and `resolution` say of what.

    The machine meanwhile: `disturbed` is the share of visits that other work interrupted, `slowed` how many times slower the
    anchor ran than at the reference, `load` the load average, `throttled` whether heat slowed a core down, and `unsettled`
    whether times still changed at the end of the warm-up. `anchor` is the anchor's median then (seconds), None where it was
    not kept, and `part` how much of the logarithm of its slowness networks of this table were found to feel and are told by
    (None: nothing was found, and `usual_part` was taken).
    """

    median: float
    low: float
    high: float
    p90: float
    p99: float
    n: int
    spread: float
    drift: float
    target: str
    resolution: int
    disturbed: float = 0.0
    slowed: float = 1.0
    load: float | None = None
    throttled: bool = False
    anchor: float | None = None
    unsettled: bool = False
    quiet: float | None = None
    part: float | None = None

    @property
    def felt(self) -> float:
        """How much of the logarithm of the anchor's slowness the times are told by."""
        return usual_part(self.target) if self.part is None else self.part

    @property
    def precision(self) -> float:
        """Half the interval / median."""
        return (self.high - self.low) / 2 / self.median

    def scaled(self, factor: float, common: float | None = None) -> Self:
        """The same at a reference at which the anchor takes `factor` times as long: times move by what they feel of it, the
        quiet time by the `common` part of it where one is given, so that it stays comparable with others."""
        times = {name: getattr(self, name) * factor**self.felt for name in ("median", "low", "high", "p90", "p99")}
        quiet = None if self.quiet is None else self.quiet * factor ** (self.felt if common is None else common)
        return replace(self, **times, quiet=quiet, slowed=self.slowed / factor)

    def to_mapping(self) -> dict[str, Any]:
        """The fields by name, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, data: Any) -> Self:
        """The measurement that `to_mapping` wrote. Raises MeasurementError for anything else."""
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(data, dict) or not needed <= data.keys() <= names:
            found = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise MeasurementError(f"not a measurement: it has the fields {sorted(names)}, got {found}")
        return cls(**data)


def summarise(
    visits: Sequence[Sequence[float]],
    factors: Sequence[float],
    target: str,
    resolution: int,
    seed: int = 0,
    disturbed: Sequence[bool] | None = None,
    moments: Sequence[Sequence[float]] | None = None,
    part: float | None = None,
) -> Measurement:
    """The measurement of runs in `visits` (seconds a run): `factors` tell by visit, and `moments` by run where they are known,
    how many times slower than at the reference the anchor was, of which networks feel a `part` (by default `usual_part`).

    No run is left out for being slow. Visits that other work interrupted (`disturbed`) do not count for the median and its
    interval where MIN_UNDISTURBED others do; `p90`, `p99` and `spread` are of all runs, the first two by the factors of their
    visits: the anchor's own moments would add to them. Raises MeasurementError without visits or with a time that is not above
    zero.
    """
    if not visits or len(visits) != len(factors) or any(len(visit) == 0 for visit in visits):
        raise MeasurementError(f"a measurement needs runs in every visit, got {len(visits)} visits; give it more time")
    taken = [np.asarray(visit, float) for visit in visits]
    felt = usual_part(target) if part is None else part
    runs = np.concatenate([visit / factor**felt for visit, factor in zip(taken, factors, strict=True)])
    if not (np.isfinite(runs).all() and runs.min() > 0):
        raise MeasurementError("the clock returned times that are not above zero; measure a larger network or batch")
    slowness = [np.asarray(of_run, float) for of_run in (factors if moments is None else moments)]
    corrected = [visit / factor**felt for visit, factor in zip(taken, slowness, strict=True)]
    middles = np.array([np.median(visit) for visit in corrected])
    flags = np.zeros(len(visits), bool) if disturbed is None else np.asarray(disturbed, bool)
    if (~flags).sum() >= MIN_UNDISTURBED:
        middles = middles[~flags]
    low, high = median_interval(middles, seed)
    p90, p99 = np.quantile(runs, (0.9, 0.99))
    drift = float(np.ptp(factors) / np.median(factors))
    return Measurement(
        float(np.median(middles)),
        low,
        high,
        float(p90),
        float(p99),
        len(runs),
        spread(np.concatenate(corrected)),
        drift,
        target,
        resolution,
        disturbed=float(flags.mean()),
        slowed=float(np.median(factors)),
        part=part,
    )


def summarise_visits(
    visits: Sequence[Visit],
    anchors: Sequence[Visit],
    target: str,
    resolution: int,
    seed: int = 0,
    reference: float | None = None,
    part: float | None = None,
) -> Measurement:
    """`summarise` of recorded visits, with what is known of the machine; `anchors` are the anchor's visits, one a round.

    The reference is the anchor's time (seconds) at which the machine counts as undisturbed, by default its median now.
    """
    now = anchor_median(anchors)
    base = reference or now
    levels = drift_factors([float(np.median(visit.seconds)) for visit in anchors], reference=base)
    factors = [levels[visit.round] for visit in visits]
    found = summarise(
        [visit.seconds for visit in visits],
        factors,
        target,
        resolution,
        seed,
        [bool(visit.interruptions) for visit in visits],
        [
            [one / base for one in visit.beside] or [factor] * len(visit.seconds)
            for visit, factor in zip(visits, factors, strict=True)
        ],
        part,
    )
    loads = [visit.state.load for visit in visits if visit.state.load is not None]
    throttles = [visit.state.throttles for visit in visits if visit.state.throttles is not None]
    return replace(
        found,
        load=float(np.median(loads)) if loads else None,
        throttled=bool(throttles) and throttles[-1] > throttles[0],
        anchor=now,
        unsettled=not all(visit.settled for visit in visits),
    )


def anchor_median(visits: Sequence[Visit]) -> float:
    """The median of an anchor's visits' medians, in seconds."""
    return float(np.median([np.median(visit.seconds) for visit in visits]))


def noise_reasons(found: Measurement, cores: int | None = None) -> list[str]:
    """What disturbed a measurement, as far as it can be told: other work, heat, a slower clock, drift, too short a warm-up."""
    cores = cores or os.cpu_count() or 1
    reasons = []
    if found.load is not None and found.load > cores:
        reasons.append(f"other work uses the machine (load average {found.load:.1f} on {cores} cores)")
    if found.disturbed > 0.5:
        reasons.append(f"other work interrupted {found.disturbed:.0%} of the visits")
    if found.throttled:
        reasons.append("a core was throttled by heat meanwhile")
    if found.slowed > SLOWED:
        reasons.append(f"the machine ran {found.slowed:.2f} times slower than at the reference (clock, heat or other work)")
    if found.drift > DRIFTED:
        reasons.append(f"its speed drifted by {found.drift:.0%} meanwhile")
    if found.unsettled:
        reasons.append("its times still changed at the end of the warm-up")
    return reasons


def median_interval(values: Array, seed: int = 0, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile bootstrap interval of the median; the same for the same values and seed."""
    draws = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(draws, axis=1), (tail, 1 - tail))
    return float(low), float(high)


def spread(values: Array | Sequence[float]) -> float:
    """Interquartile range / median."""
    first, middle, third = np.quantile(values, (0.25, 0.5, 0.75))
    return float((third - first) / middle)


def steady(middles: Sequence[float], tolerance: float = 0.05) -> bool:
    """Whether warm-up is over: the last two block medians agree with the one before them within `tolerance`, or the fastest of
    the last three with the fastest of three or more before them.

    What warms up gets faster; on a machine whose speed changes all the time blocks may never agree.
    """
    if len(middles) < 3:
        return False
    last, before = np.asarray(middles[-3:]), middles[:-3]
    agree = bool(np.ptp(last) <= tolerance * np.median(last))
    return agree or (len(before) >= 3 and bool(abs(last.min() - min(before)) <= tolerance * min(before)))


def drift_factors(anchors: Sequence[float], window: int = 5, reference: float | None = None) -> list[float]:
    """How much slower than `reference` (default: their median) the machine was at each anchor time.

    A running median over `window` anchors: what is slow stays (frequency, temperature), single outliers do not.
    """
    values = np.asarray(anchors, float)
    half = window // 2
    smooth = [float(np.median(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]
    base = float(np.median(values)) if reference is None else reference
    return [value / base for value in smooth]
