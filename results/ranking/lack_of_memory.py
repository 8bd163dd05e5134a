"""Telling an error that says that memory ran out from all others."""

from __future__ import annotations

import torch

_LACKING = ("out of memory", "not enough memory", "DefaultCPUAllocator", "bad_alloc", "_STATUS_ALLOC_FAILED")
"""What a RuntimeError says where memory ran out: that of accelerators and their libraries, of PyTorch's allocator and C++'s."""


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that the machine, or its accelerator, has too little memory for what was to be computed."""
    lacking = isinstance(error, RuntimeError) and any(words in str(error) for words in _LACKING)
    return lacking or isinstance(error, MemoryError | torch.OutOfMemoryError)
