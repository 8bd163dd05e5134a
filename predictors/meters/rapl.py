"""RAPL: the energy counters of Intel's and AMD's processors, as Linux shows them below /sys/class/powercap.

`energy_uj` holds microjoules and starts again from zero behind `max_energy_range_uj`; the processor updates it about every
millisecond (Haehnel et al. 2012, "Measuring energy consumption for short code paths using RAPL", section 3). A package counts
its cores, caches and memory controller; memory modules have a domain of their own below it, `dram`, where the processor has
one. `psys` counts the whole board, packages included, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nas.errors import MeasurementError
from nas.predictors.meter import Counter, register_meter

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@register_meter
class Rapl:
    """The packages of this machine and their memory, whichever program uses them."""

    name: ClassVar[str] = "rapl"
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    counts: ClassVar[str] = "processor packages and their memory"
    interval: ClassVar[float] = 1e-3

    def start(self) -> Counter:
        """See `Meter.start`. The counter must be read more often than a domain starts from zero, which takes minutes."""
        found = list(_domains(POWERCAP))
        if not found:
            raise MeasurementError(f"{POWERCAP} has no RAPL counters (virtual machines and containers often lack them)")
        return _Sum(found)


@dataclass(frozen=True, slots=True)
class _Domain:
    """One counter: its file, and where it starts again from zero, in microjoules."""

    file: Path
    span: int


class _Sum:
    """Joules of all domains since the start."""

    def __init__(self, domains: Sequence[_Domain]) -> None:
        self._domains = domains
        self._last = [_number(domain.file) for domain in domains]
        self._total = 0

    def __call__(self) -> float:
        now = [_number(domain.file) for domain in self._domains]
        for domain, before, after in zip(self._domains, self._last, now, strict=True):
            self._total += after - before if after >= before else after + domain.span - before
        self._last = now
        return self._total * MICRO


def _domains(root: Path) -> Iterator[_Domain]:
    """Packages, `intel-rapl:0`, and the memory below them, `intel-rapl:0:2`."""
    for folder in sorted(root.glob("intel-rapl:*")):
        if not (folder / "energy_uj").exists():
            continue
        label = folder / "name"
        name = label.read_text(encoding="utf-8").strip() if label.exists() else ""
        package = folder.name.count(":") == 1
        if name == "dram" or (package and name != "psys"):
            yield _Domain(folder / "energy_uj", _number(folder / "max_energy_range_uj"))


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except PermissionError as error:
        raise MeasurementError(f"{file} may not be read; allow it by `sudo chmod a+r {file}`") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no number"
        raise MeasurementError(f"{file} cannot be read: {reason}") from error
