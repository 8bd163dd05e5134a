"""Keeping the memory of a run for the next one while something is measured.

PyTorch on a CPU asks the C library for every map and frees it. glibc gives large freed blocks back to the system, and the next
run has to fetch them page by page: up to half of the time of networks with large maps, and whether it comes to that depends on
what the process did before, so that one network has two times. Serving guides therefore advise allocators that keep memory
(jemalloc, tcmalloc). While this module's context is open glibc keeps it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

KEPT, USUAL = "kept between runs", "given back as the system does"
SETTINGS = {"MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_MMAP_MAX_": "0"}
"""With these variables in its environment, a program of one's own keeps memory from its start."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LOCK = threading.Lock()
_open: list[None] = []
"""An entry for each context that is open."""
_MOST_MAPPED = 65536
_LARGEST, _TRIMMED = 32 << 20, 64 << 20
"""Bytes: the largest thresholds of glibc that the sizes of freed blocks bring it to."""


def memory_policy() -> str:
    """What becomes of freed memory while something is measured here."""
    return USUAL if _library() is None else KEPT


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Nothing that the main thread frees goes back to the system; nothing changes where the C library is not glibc.

    When the last such context ends, what is free is given back, and glibc's thresholds are those that large blocks would have
    brought it to, unless the environment of the process sets them (SETTINGS).
    """
    library = _library()
    if library is None:
        yield
        return
    with _LOCK:
        _open.append(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        with _LOCK:
            _open.pop()
            if not _open and os.environ.keys().isdisjoint(SETTINGS):
                library.mallopt(_MMAP_MAX, _MOST_MAPPED)
                library.mallopt(_MMAP_THRESHOLD, _LARGEST)
                library.mallopt(_TRIM_THRESHOLD, _TRIMMED)
                library.malloc_trim(0)


def _library() -> Any:
    """The C library of this process where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
