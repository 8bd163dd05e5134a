"""The state of the machine while something is measured, and holding a measurement to the same cores.

Everything is read where the system tells it (Linux mostly) and is None elsewhere; nothing here changes a setting of the
machine, and the affinity of the process is as before afterwards.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CPUS = Path("/sys/devices/system/cpu")
CPUINFO = Path("/proc/cpuinfo")
STAT = Path("/proc/stat")
THERMAL = Path("/sys/class/thermal")
LOOK_SECONDS = 0.1
LOOK_LASTS = 30.0


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment.

    `clock_hz` is the frequency of the first core that is measured on, `governor` how it is chosen, `load` the load average
    of the last minute, `throttles` how often these cores were slowed by heat since the start, `celsius` the hottest sensor, and
    `cpus` the cores that the measurement is held to; empty where it may run on all.
    """

    clock_hz: float | None = None
    governor: str | None = None
    load: float | None = None
    throttles: int | None = None
    celsius: float | None = None
    cpus: tuple[int, ...] = ()

    def to_mapping(self) -> Mapping[str, Any]:
        """What is known, fit for JSON."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


def machine_state(cpus: tuple[int, ...] = ()) -> MachineState:
    """The machine now, for a measurement on these cores."""
    core = cpus[0] if cpus else 0
    # Only the cores that are measured on: hundreds of files would disturb what is measured.
    counts = [_number(CPUS / f"cpu{index}/thermal_throttle/core_throttle_count") for index in cpus or (core,)]
    known = [int(count) for count in counts if count is not None]
    heats = [_number(path) for path in sorted(THERMAL.glob("thermal_zone*/temp"))]
    return MachineState(
        clock_hz=clock_hz(core),
        governor=next(iter(lines(CPUS / f"cpu{core}/cpufreq/scaling_governor")), None),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        throttles=sum(known) if known else None,
        celsius=max((heat for heat in heats if heat is not None), default=0.0) / 1e3 or None,
        cpus=cpus,
    )


def clock_hz(core: int = 0) -> float | None:
    """The present frequency of a core in Hz: from the kernel's scaling driver, else from /proc/cpuinfo."""
    scaled = _number(CPUS / f"cpu{core}/cpufreq/scaling_cur_freq")
    if scaled is not None:
        return scaled * 1e3
    told = [line.partition(":")[2] for line in lines(CPUINFO) if line.lower().startswith("cpu mhz")]
    return float(told[min(core, len(told) - 1)]) * 1e6 if told else None


def interruptions() -> int | None:
    """How often other work took a core from this process since its start; None where the system does not count it."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Hold the calling thread, and those it starts, to `threads` cores, the idlest of the fastest; yields their numbers.

    Nothing is held, and nothing yielded, where the system cannot do it or the threads need all cores anyway.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    chosen = _choose(before, threads)
    held = bool(chosen) and _hold(chosen)
    try:
        yield tuple(sorted(chosen)) if held else ()
    finally:
        if held:
            _hold(before)


def _hold(cores: set[int]) -> bool:
    """Hold the calling thread to cores; False where the system forbids it."""
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return False
    return True


def lines(path: Path) -> list[str]:
    """The lines of a small system file; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


_IDLE: dict[frozenset[int], tuple[float, list[int]]] = {}


def _choose(allowed: set[int], threads: int) -> set[int]:
    """The cores for `threads` threads, found by a short look at which are idle; a look is good for LOOK_LASTS seconds."""
    if threads >= len(allowed):
        return set()
    tops = {core: _number(CPUS / f"cpu{core}/cpufreq/cpuinfo_max_freq") or 0.0 for core in allowed}
    fast = [core for core in sorted(allowed) if tops[core] == max(tops.values())]
    candidates = frozenset(fast if len(fast) >= threads else allowed)
    seen, order = _IDLE.get(candidates, (float("-inf"), []))
    if time.monotonic() - seen > LOOK_LASTS:
        before = _idle_ticks()
        time.sleep(LOOK_SECONDS)
        after = _idle_ticks()
        # Of equally idle cores the last: the first ones serve the interrupts.
        order = sorted(candidates, key=lambda core: (before.get(core, 0) - after.get(core, 0), -core))
        _IDLE[candidates] = time.monotonic(), order
    return set(order[:threads])


def _idle_ticks() -> dict[int, int]:
    """Ticks that each core has been idle since the start."""
    found = {}
    for line in lines(STAT):
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(numbers) > 3:
            found[int(name[3:])] = int(numbers[3])
    return found


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
