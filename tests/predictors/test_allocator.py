"""Memory that is kept while something is measured."""

import os
import subprocess
import sys
import textwrap

import pytest

from nas.predictors import allocator
from nas.predictors.allocator import SETTINGS, USUAL, memory_kept, memory_policy

BLOCKS, BYTES = 6, 8 << 20
glibc = pytest.mark.skipif(memory_policy() == USUAL, reason="the C library is not glibc")


FAULTS = f"""
import ctypes, resource, sys
from nas.predictors.allocator import KEPT, memory_kept, memory_policy

def faults(rounds=5):
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

    def once():
        blocks = [library.malloc({BYTES}) for _ in range({BLOCKS})]
        for block in blocks:
            library.memset(block, 1, {BYTES})
        for block in blocks:
            library.free(block)

    once()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(rounds):
        once()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return resource.getpagesize() * int(file.read().split()[1])
"""
"""`faults(rounds)`: the pages that the system had to bring while blocks were asked for, written and freed some rounds long;
`resident()`: the bytes that the process holds."""


def told_by_a_fresh_process(script):
    """What a script prints, line by line, as numbers; a process that has run other tests may have free blocks of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    command = [sys.executable, "-c", FAULTS + textwrap.dedent(script)]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [int(line) for line in out.splitlines()]


@glibc
def test_freed_memory_is_not_fetched_again_while_it_is_kept():
    before, kept, inner, outer = told_by_a_fresh_process("""
        print(faults())
        with memory_kept():
            assert memory_policy() == KEPT
            print(faults())
            with memory_kept():
                print(faults())
            print(faults())
    """)
    assert before > 0, "the blocks are too small for this test: the system gets none of them back"
    assert max(kept, inner, outer) < before / 5, "the inner context ends, the outer one does not"


@glibc
def test_it_goes_back_afterwards():
    held, left = told_by_a_fresh_process("""
        with memory_kept():
            faults(1)
            print(resident())
        print(resident())
    """)
    assert left < held - BLOCKS * BYTES / 2


def test_nothing_changes_where_the_library_is_another(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory_policy() == USUAL
    with memory_kept():
        pass
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert memory_policy() == USUAL
