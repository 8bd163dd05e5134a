"""What a measurement depends on beside its target: hardware, versions, load."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from nas.predictors.allocator import USUAL, memory_policy
from nas.predictors.machine import CPUINFO, clock_hz, lines
from nas.predictors.runtime import runtime

DECISIVE = ("board", "cpu", "cores", "gpu", "system", "memory", "torch", "runtime")
"""What times depend on so much that those of two such environments do not belong into one table."""


OF_THE_LIBRARY = ("eager", "compile")
"""Runtimes that ask the C library for every map; others keep their memory themselves."""


def environment(runtime_name: str = "eager") -> dict[str, Any]:
    """CPU and GPU model, cores, frequency (Hz) and load where they can be read, what becomes of freed memory
    (`nas.predictors.allocator`), versions of what runs the network."""
    memory = {"memory": memory_policy()} if runtime_name in OF_THE_LIBRARY else {}
    return {
        **memory,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "frequency_hz": clock_hz(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "runtime": runtime(runtime_name).version(),
    }


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    for line in lines(CPUINFO):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("model name", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of DECISIVE is not as it was recorded, each as `name was X, is Y`; what was not recorded is not compared, except
    memory: where nothing is said of it, it went back to the system."""
    recorded = {"memory": USUAL, **recorded} if recorded else {}
    now = {"memory": USUAL, **now}
    names = [name for name in DECISIVE if name in recorded and recorded[name] != now.get(name)]
    return [f"{name} was {recorded[name]}, is {now.get(name)}" for name in names]
