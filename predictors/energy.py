"""Energy of one run of a network: what a meter counts while it runs again and again, less what it counts at rest.

A counter is updated now and then, not when it is read, so every count begins and ends where the counter moves (Haehnel et al.
2012, section 4), and lasts until its ends are a hundredth of it at most. Rest and work take turns, round after round: what the
machine takes while it does nothing changes with its heat and with what else it does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nas.errors import MeasurementError
from nas.predictors.interleaving import undisturbed
from nas.predictors.machine import MachineState, machine_state, pinned
from nas.predictors.meter import Counter, Meter
from nas.predictors.timings import median_interval
from nas.predictors.visits import Series

if TYPE_CHECKING:
    from nas.predictors.target import Target

ROUNDS = 5
RESOLUTION = 0.01
PERIODS = 10
"""Updates of the counter that each count lasts at least."""
REST = 0.5
"""Seconds of rest for a second of work."""
LOOKS = 50
"""How often a resting machine looks at the counter between two updates, while it waits for one."""
PATIENCE = 20
"""Updates after which a counter that has not moved stands still."""

UNKNOWN = MachineState()

Pass = Callable[[float], int]
"""Lets so many seconds pass at least, and tells how many runs it made."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: when it began (seconds since 1970), what was counted (joules) during how many seconds at rest and at work,
    in how many runs, and the machine then."""

    at: float
    rest_joules: float
    rest_seconds: float
    joules: float
    seconds: float
    runs: int
    state: MachineState = UNKNOWN

    @property
    def net(self) -> float:
        """Joules of a run beyond what as much rest takes; below zero where the rest was no rest."""
        return (self.joules - self.rest_joules / self.rest_seconds * self.seconds) / self.runs


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one run, of a whole batch, on one target, in joules beyond what the device takes at rest.

    `joules` is the median of the rounds, `low` and `high` its 95 % bootstrap interval. `rest` is the power (W) at rest,
    `seconds` what a run took meanwhile, right after the one before, `runs` how many were counted, `meter` what counted.
    """

    joules: float
    low: float
    high: float
    rest: float
    seconds: float
    runs: int
    meter: str
    target: str

    def to_mapping(self) -> dict[str, Any]:
        """The fields by name, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """What `to_mapping` wrote. Raises MeasurementError for anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or data.keys() != names:
            raise MeasurementError(f"not an energy: it has the fields {sorted(names)}, got {data!r}")
        joules = data["joules"]
        if not isinstance(joules, (int, float)) or not 0 < joules < math.inf:
            raise MeasurementError(f"not an energy: its joules are a number above zero, got {joules!r}")
        return cls(**data)


def measure_energy(
    run: Callable[[], object],
    target: Target,
    meter: Meter,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    watch: Callable[[Round], None] = lambda found: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """The energy of a prepared run; `watch` is given every round.

    Raises MeasurementError where the counter cannot be read, stands still, or counts no more at work than at rest, and
    RunFailedError where a run fails.
    """
    series, found = Series(run), []
    with pinned(target.threads) as cpus, undisturbed():
        for _ in range(2):
            series.once()
        began = clock()
        series.once()
        once = clock() - began
        for _ in range(rounds):
            found.append(_round(series, meter, once, machine_state(cpus), clock, sleep))
            watch(found[-1])
    return summarise_rounds(found, meter.name, str(target), seed)


def work_seconds(meter: Meter, once: float) -> float:
    """How long work of `once` seconds a run is counted in a round: each end is off by an update of the counter or by a run,
    whichever is shorter."""
    return max(PERIODS * meter.interval, 2 * min(meter.interval, once) / RESOLUTION)


def energy_seconds(meter: Meter, once: float, rounds: int = ROUNDS) -> float:
    """About how long `measure_energy` takes."""
    work = work_seconds(meter, once)
    return rounds * (work + max(REST * work, PERIODS * meter.interval) + 2 * (meter.interval + once))


def summarise_rounds(found: Sequence[Round], meter: str, target: str, seed: int = 0) -> Energy:
    """The energy that some rounds tell. Raises MeasurementError where it is not above zero."""
    nets = np.array([item.net for item in found])
    joules = float(np.median(nets))
    if joules <= 0:
        raise MeasurementError(
            f"meter {meter!r} counts no more while the network runs on {target} than while nothing does; let the machine rest "
            "and count again"
        )
    low, high = median_interval(nets, seed)
    return Energy(
        joules,
        low,
        high,
        float(np.median([item.rest_joules / item.rest_seconds for item in found])),
        float(np.median([item.seconds / item.runs for item in found])),
        sum(item.runs for item in found),
        meter,
        target,
    )


def _round(
    series: Series,
    meter: Meter,
    once: float,
    state: MachineState,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Round:
    def rest(seconds: float) -> int:
        sleep(max(seconds, meter.interval / LOOKS))
        return 0

    def work(seconds: float) -> int:
        end, runs = clock() + seconds, 0
        while runs == 0 or clock() < end:
            series.once()
            runs += 1
        return runs

    counter, seconds, patience = meter.start(), work_seconds(meter, once), PATIENCE * meter.interval + once
    at = time.time()
    resting = _count(counter, rest, max(REST * seconds, PERIODS * meter.interval), patience, clock)
    working = _count(counter, work, seconds, patience, clock)
    return Round(at, resting[0], resting[1], *working, state)


def _count(
    counter: Counter, passing: Pass, seconds: float, patience: float, clock: Callable[[], float]
) -> tuple[float, float, int]:
    """Joules, seconds and runs between two updates of the counter that are at least so many seconds apart."""
    first, _ = _update(counter, passing, patience, clock)
    began = clock()
    runs = passing(seconds)
    last, more = _update(counter, passing, patience, clock)
    return last - first, clock() - began, runs + more


def _update(counter: Counter, passing: Pass, patience: float, clock: Callable[[], float]) -> tuple[float, int]:
    """What the counter tells when it moves, and how many runs were made until then. Raises MeasurementError."""
    before, runs, end = counter(), 0, clock() + patience
    while (now := counter()) == before:
        if clock() > end:
            raise MeasurementError(
                f"the energy counter stands still: it has not moved for {patience:.2g} s; leave the energy out"
            )
        runs += passing(0.0)
    return now, runs
