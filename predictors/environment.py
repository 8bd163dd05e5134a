"""What a measurement depends on beside its target: hardware, versions, load."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from nas.predictors.runtime import runtime

FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
CPUINFO = Path("/proc/cpuinfo")


def environment(runtime_name: str = "eager") -> dict[str, Any]:
    """CPU and GPU model, cores, frequency (Hz) and load where they can be read, versions of what runs the network."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "frequency_hz": _frequency(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "runtime": runtime(runtime_name).version(),
    }


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    for line in _lines(CPUINFO):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def _frequency() -> float | None:
    """The present frequency of the first core in Hz: from the kernel's scaling driver, else from /proc/cpuinfo."""
    for line in _lines(FREQUENCY):
        return float(line) * 1e3
    for line in _lines(CPUINFO):
        name, _, value = line.partition(":")
        if name.strip().lower() == "cpu mhz":
            return float(value) * 1e6
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
