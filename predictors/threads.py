"""How many threads PyTorch runs an operation on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch with `number` threads, and as many as before afterwards.

    The number is the whole process's: threads of Python that begin meanwhile take it over.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
