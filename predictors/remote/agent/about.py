"""What a measurement depends on beside its target, read on the device itself."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from pathlib import Path
from typing import Any

import numpy as np

CPU0 = Path("/sys/devices/system/cpu/cpu0/cpufreq")
CPUINFO = Path("/proc/cpuinfo")
MODEL = Path("/proc/device-tree/model")
ZONES = Path("/sys/class/thermal")


def about(runtime_version: str) -> dict[str, Any]:
    """Machine, clock (Hz), load, temperature (degrees Celsius) and versions; None for what this machine does not tell."""
    return {
        "host": socket.gethostname(),
        "board": _text(MODEL),
        "cpu": _of_cpuinfo("model name", "hardware") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtime": runtime_version,
        **state(),
    }


def state() -> dict[str, Any]:
    """Clock, governor, load and temperature now."""
    mhz, khz, celsius = _of_cpuinfo("cpu mhz"), _text(CPU0 / "scaling_cur_freq"), _text(ZONES / "thermal_zone0" / "temp")
    return {
        "frequency_hz": float(khz) * 1e3 if khz else float(mhz) * 1e6 if mhz else None,
        "governor": _text(CPU0 / "scaling_governor"),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "temperature_c": float(celsius) / 1e3 if celsius else None,
    }


def who() -> str:
    """The user and the machine of this process: `ann@laptop`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"  # a container's user need not have a name
    return f"{user}@{socket.gethostname()}"


def _of_cpuinfo(*names: str) -> str | None:
    for line in (_text(CPUINFO) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            return value.strip()
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0") or None
    except OSError:
        return None
