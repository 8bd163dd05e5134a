"""What a measurement depends on beside its target, read on the device itself."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from pathlib import Path
from typing import Any

import numpy as np

from nas.predictors.machine import CPUINFO, lines, machine_state

BOARD = Path("/proc/device-tree/model")


def about(runtime_version: str) -> dict[str, Any]:
    """Machine, clock (Hz), load, temperature (degrees Celsius) and versions; None for what this machine does not tell."""
    state = machine_state()
    return {
        "host": socket.gethostname(),
        "board": next((line.strip("\0 ") for line in lines(BOARD)), None),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtime": runtime_version,
        "frequency_hz": state.clock_hz,
        "governor": state.governor,
        "load_average": state.load,
        "temperature_c": state.celsius,
    }


def who() -> str:
    """The user and the machine of this process: `ann@laptop`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"  # a container's user need not have a name
    return f"{user}@{socket.gethostname()}"


def _cpu() -> str:
    for line in lines(CPUINFO):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine()
