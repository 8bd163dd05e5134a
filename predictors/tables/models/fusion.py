"""Which operations a compiler would run as one kernel: an estimate from the operations alone.

In the manner of TorchInductor (Ansel et al. 2024, PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode
Transformation and Graph Compilation, ASPLOS): convolutions, products and attention are calls of libraries; everything else
joins what feeds it, unless that is a reduction, and memory is read and written between kernels only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.predictors.tables.models.operations import ATTENTION, CONVOLUTION, PRODUCTS, RESULT, Operation

LIBRARY = {CONVOLUTION, ATTENTION, *PRODUCTS}
REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "var", "var_mean", "linalg_vector_norm", "argmax"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """Operations by number, and the elements that they read from and write for other kernels."""

    members: tuple[int, ...]
    library: bool
    read: int
    written: int


def kernels(operations: Sequence[Operation]) -> list[Kernel]:
    """The kernels of a network, in order of their first operation; its result is none of them."""
    kernel_of = _assigned(operations)
    members: dict[int, list[int]] = {}
    for number, kernel in enumerate(kernel_of):
        if operations[number].name != RESULT:
            members.setdefault(kernel, []).append(number)
    leaving = {
        source
        for number, one in enumerate(operations)
        for source in one.sources
        if source >= 0 and kernel_of[source] != kernel_of[number]
    }
    return [_kernel(operations, numbers, kernel_of, leaving) for numbers in members.values()]


def _assigned(operations: Sequence[Operation]) -> list[int]:
    """The kernel of each operation, as the number of its first one."""
    found: list[int] = []
    for number, one in enumerate(operations):
        feeding = [s for s in one.sources if s >= 0 and operations[s].name not in LIBRARY | REDUCTIONS]
        alone = one.name in LIBRARY or one.name == RESULT or not feeding
        found.append(number if alone else found[max(feeding)])
    return found


def _kernel(operations: Sequence[Operation], numbers: list[int], kernel_of: list[int], leaving: set[int]) -> Kernel:
    mine = kernel_of[numbers[0]]
    fresh: dict[tuple[int, int], int] = {}
    for number in numbers:
        for place, (source, shape) in enumerate(zip(operations[number].sources, operations[number].reads, strict=True)):
            if source < 0:
                fresh[number, place] = math.prod(shape)
            elif kernel_of[source] != mine:
                fresh[source, -1] = math.prod(shape)
    written = sum(operations[number].written for number in numbers if number in leaving)
    return Kernel(tuple(numbers), operations[numbers[0]].name in LIBRARY, sum(fresh.values()), written)
