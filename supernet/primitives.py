"""How many primitives oneDNN remembers in a process that trains a supernet."""

from __future__ import annotations

import os

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
REMEMBERED = 128


def remember_few() -> None:
    """Let oneDNN remember REMEMBERED primitives instead of 1,024, unless the environment says how many.

    It makes one for each shape of each convolution. A supernet rarely meets a shape again before a thousand others, and each
    that is remembered stays between large tensors in the heap: a fifth more memory than the tensors need
    (`benchmarks/supernet_memory.py`). Read by oneDNN when it makes the first. For processes that train alone: one that measures
    latencies in turn needs all of them.
    """
    os.environ.setdefault(CAPACITY, str(REMEMBERED))
