"""Devices: what a target runs on, and how this machine reaches it.

`cpu` and `cuda` are here. A runtime of another package names devices of its own in its `supports`; such a device counts as
present and is driven by this machine's CPU, unless the package announces more about it with `register_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas.errors import MeasurementError, UsageError


def _present() -> None:
    """Nothing to require."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its name in targets.

    `require` raises MeasurementError where the device is missing. `torch_device` is where PyTorch runs what is timed beside
    the networks, the anchor and single nodes: the device itself where PyTorch runs there, else the CPU that drives it.
    """

    name: str
    require: Callable[[], None] = _present
    torch_device: str = "cpu"


def _require_cuda() -> None:
    if not torch.cuda.is_available():
        raise MeasurementError(f"it needs a CUDA device, and torch {torch.__version__} finds none; use cpu")


_REGISTRY = {"cpu": Device("cpu"), "cuda": Device("cuda", _require_cuda, "cuda")}


def register_device(found: Device) -> Device:
    """Announce a device. Raises UsageError where another one holds the name."""
    known = _REGISTRY.setdefault(found.name, found)
    if known != found:
        raise UsageError(f"device {found.name!r} is registered twice, as {known} and as {found}")
    return found


def device(name: str) -> Device:
    """The device of that name; one that was only named by a runtime is driven by the CPU."""
    return _REGISTRY.get(name) or Device(name)
