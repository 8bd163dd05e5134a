"""The workers of a data-parallel training: each computes on its share of a batch, and gradients are averaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from nas.errors import UsageError


class Workers(Protocol):
    """What a training step needs of its worker and the others."""

    rank: int
    size: int

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the workers; all hand in tensors of the same shapes in the same order."""

    def wait(self) -> None:
        """Return when all workers are here."""


class Alone:
    """One worker."""

    rank, size = 0, 1

    def sum(self, tensors: list[Tensor]) -> None:
        """Nothing to add."""

    def wait(self) -> None:
        """Nobody to wait for."""


class Group:
    """The processes of `torch.distributed`: those of `torchrun`, or of Ray Train."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, tensors: list[Tensor]) -> None:
        """One message for all tensors, which may be views: many small ones would wait for each other."""
        if not tensors:
            return
        flat = torch.empty(sum(tensor.numel() for tensor in tensors), device=tensors[0].device)
        parts = [part.view(tensor.shape) for tensor, part in zip(tensors, _split(flat, tensors), strict=True)]
        for tensor, part in zip(tensors, parts, strict=True):
            part.copy_(tensor)
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part)

    def wait(self) -> None:
        """A barrier."""
        dist.barrier()


def _split(flat: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """The part of a flat tensor that each of some tensors fills."""
    return flat.split([tensor.numel() for tensor in tensors])


@contextlib.contextmanager
def launched() -> Iterator[Workers]:
    """The workers that `torchrun` or Ray Train has started around this process, or this one alone.

    Joins the process group where `torchrun` has set its variables and nobody has joined yet, and leaves it afterwards.
    Raises UsageError where only some of the variables are set.
    """
    if dist.is_available() and dist.is_initialized():
        yield Group()
        return
    if "WORLD_SIZE" not in os.environ:
        yield Alone()
        return
    if not os.environ["WORLD_SIZE"].isdigit():
        raise UsageError(f"WORLD_SIZE must be a number of workers, got {os.environ['WORLD_SIZE']!r}: start them with torchrun")
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE is set but {', '.join(missing)} is not: start the workers with torchrun, or unset it")
    dist.init_process_group("gloo")
    try:
        yield Group()
    finally:
        dist.destroy_process_group()
