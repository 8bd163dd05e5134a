"""Quantities as people write them (`5ms`, `4.5G`, `30M`); everything inside is in SI base units."""

from __future__ import annotations

import math
import re

from nas.errors import UsageError

_NUMBER = re.compile(r"\s*(-?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9.]*)\s*")
_TIME = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
_ENERGY = {"uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0}
_COUNT = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def parse_time(text: str) -> float:
    """Seconds of `5ms`, `800us`, `1.5s`. Raises UsageError where the unit is missing or no unit of time."""
    return _parse(text, _TIME, "a time", "write a number and one of ns, us, µs, ms, s, e.g. '5ms'")


def parse_count(text: str) -> float:
    """The number meant by `30M`, `4.5G`, `1200`: parameters, MACs, evaluations."""
    return _parse(text, _COUNT, "a count", "write a number, with k, M, G or T behind it where it is large, e.g. '4.5G'")


def parse_bytes(text: str) -> float:
    """The bytes of `64MiB`, `2GB`. Raises UsageError where the unit is missing or no unit of memory."""
    return _parse(text, _BYTES, "an amount of memory", "write a number and one of B, kB, MB, GB, KiB, MiB, GiB, e.g. '64MiB'")


def parse_energy(text: str) -> float:
    """Joules of `5mJ`. Raises UsageError where the unit is missing or no unit of energy."""
    return _parse(text, _ENERGY, "an energy", "write a number and one of uJ, µJ, mJ, J, e.g. '5mJ'")


def format_time(seconds: float) -> str:
    """Three significant digits in the largest unit that keeps the number at 1 or above: `4.52 ms`."""
    if not math.isfinite(seconds):
        return "unknown"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def format_count(number: float) -> str:
    """Three significant digits with k, M, G or T: `28.3M`."""
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.3g}"


def format_bytes(number: float) -> str:
    """Four significant digits in binary units: `61.35 MiB`."""
    if not math.isfinite(number):
        return "unknown"
    for unit, scale in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(number) >= scale:
            return f"{number / scale:.4g} {unit}"
    return f"{number:.4g} B"


def format_energy(joules: float) -> str:
    """Three significant digits in J, mJ or µJ."""
    if not math.isfinite(joules):
        return "unknown"
    for unit, scale in (("J", 1.0), ("mJ", 1e-3)):
        if abs(joules) >= scale:
            return f"{joules / scale:.3g} {unit}"
    return f"{joules / 1e-6:.3g} µJ"


def format_duration(seconds: float) -> str:
    """A duration for people: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _parse(text: str, units: dict[str, float], what: str, remedy: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match.group(2) not in units:
        raise UsageError(f"cannot read {text!r} as {what}; {remedy}")
    value = float(match.group(1)) * units[match.group(2)]
    if value <= 0 or not math.isfinite(value):
        raise UsageError(f"{what} must be above zero, got {text!r}; {remedy}")
    return value
