"""Memory that is kept while something is measured."""

import ctypes
import sys
from pathlib import Path

import pytest

from nas.predictors import allocator
from nas.predictors.allocator import KEPT, USUAL, memory_kept, memory_policy

BLOCKS, BYTES = 6, 8 << 20
glibc = pytest.mark.skipif(memory_policy() == USUAL, reason="the C library is not glibc")


def faults(rounds=5):
    """How many pages the system had to bring while blocks were asked for, written and freed some rounds long."""
    import resource

    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

    def once():
        blocks = [library.malloc(BYTES) for _ in range(BLOCKS)]
        for block in blocks:
            library.memset(block, 1, BYTES)
        for block in blocks:
            library.free(block)

    once()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(rounds):
        once()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@glibc
def test_freed_memory_is_not_fetched_again_while_it_is_kept():
    library = ctypes.CDLL(None)
    for setting, value in ((-4, 1 << 16), (-1, 1 << 17), (-3, 1 << 17)):
        library.mallopt(setting, value)  # as in a fresh process: blocks above 128 KiB go back
    before = faults()
    with memory_kept():
        assert memory_policy() == KEPT
        assert faults() < before / 5
        with memory_kept():
            assert faults() < before / 5
        assert faults() < before / 5, "the inner context ends, the outer one does not"


@glibc
def test_it_goes_back_afterwards():
    import resource

    def resident():
        return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])

    with memory_kept():
        faults(1)
        held = resident()
    assert resident() < held - BLOCKS * BYTES / 2


def test_nothing_changes_where_the_library_is_another(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory_policy() == USUAL
    with memory_kept():
        pass
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert memory_policy() == USUAL
