"""Where networks are trained: on the CPU, or on an accelerator of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from nas.errors import UsageError

CPU = "cpu"


def training_device(name: str) -> torch.device:
    """The device of a name as PyTorch writes it (`cuda`, `cuda:1`, `mps`), `auto` for the accelerator if there is one.

    Raises UsageError for a name that PyTorch does not know, and for a device that is not there.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return found or torch.device(CPU)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"PyTorch knows no device {name!r}: write cpu, cuda, cuda:1, mps or auto") from error
    there = found is not None and found.type == device.type and (device.index or 0) < torch.accelerator.device_count()
    if device.type != CPU and not there:
        raise UsageError(f"there is no device {name!r}: torch {torch.__version__} finds {found or 'none but the cpu'}; use cpu")
    return device


@contextlib.contextmanager
def moved(module: nn.Module, name: str) -> Iterator[None]:
    """The module is on that device inside, and on the CPU again afterwards, where it is exported and scored."""
    device = training_device(name)
    if device.type == CPU:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to(CPU)


def require_here(name: str, elsewhere: bool) -> None:
    """Raise UsageError where the device is not there, or is an accelerator and workers of Ray or `torchrun` would train."""
    if training_device(name).type != CPU and elsewhere:
        raise UsageError(f"workers of Ray and torchrun train on CPUs: leave --device {name} away, or --ray and the workers")
