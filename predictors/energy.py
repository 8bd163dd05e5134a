"""Energy of one inference, where the machine counts it: the package counters of RAPL below /sys/class/powercap.

A counter covers the whole processor package, other programs included, so that a figure is only as good as the machine is
quiet; what the package takes while it idles for as long is told beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.errors import MeasurementError

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of the package for each of `runs` runs, and of the same package idle for as long."""

    joules: float
    idle: float
    runs: int

    @property
    def net(self) -> float:
        """Joules of a run beyond what the idle package takes, never below zero."""
        return max(self.joules - self.idle, 0.0)


@dataclass(frozen=True, slots=True)
class Counter:
    """One package's counter: its file and where it starts again from zero, in microjoules."""

    file: Path
    span: int

    def read(self) -> int:
        """Microjoules. Raises MeasurementError where the file may not be read."""
        return _number(self.file)

    def since(self, before: int) -> float:
        """Joules since a reading, across at most one start from zero."""
        now = self.read()
        return (now - before if now >= before else now + self.span - before) * MICRO


def counters(root: Path = POWERCAP) -> list[Counter]:
    """The counters of all packages. Raises MeasurementError where there are none that may be read."""
    found = [
        Counter(folder / "energy_uj", _number(folder / "max_energy_range_uj"))
        for folder in sorted(root.glob("intel-rapl:*"))
        if folder.name.count(":") == 1 and (folder / "energy_uj").exists()
    ]
    if not found:
        raise MeasurementError(f"energy is not measurable here: {root} has no RAPL counters; leave the energy out")
    for counter in found:
        counter.read()
    return found


def measure_energy(
    run: Callable[[], object],
    seconds: float = 2.0,
    root: Path = POWERCAP,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """The energy of a prepared run, repeated for about `seconds` after an idle time of the same length.

    Raises MeasurementError where the machine counts no energy, or lets only its administrator read it.
    """
    found = counters(root)
    before, began = _readings(found), clock()
    sleep(seconds)
    idle = _joules(found, before) / (clock() - began)
    run()
    before, began, runs = _readings(found), clock(), 0
    while runs == 0 or clock() - began < seconds:
        run()
        runs += 1
    spent, took = _joules(found, before), clock() - began
    return Energy(spent / runs, idle * took / runs, runs)


def _readings(found: Sequence[Counter]) -> list[int]:
    return [counter.read() for counter in found]


def _joules(found: Sequence[Counter], before: Sequence[int]) -> float:
    return sum(counter.since(start) for counter, start in zip(found, before, strict=True))


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no number"
        raise MeasurementError(
            f"energy is not measurable here: {file} cannot be read ({reason}); let the user read it, or leave the energy out"
        ) from error
