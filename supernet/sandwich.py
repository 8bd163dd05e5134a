"""The sandwich rule: each step trains the largest, the smallest and some random architectures on one batch."""

from __future__ import annotations

import random
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.architecture import Architecture
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet

LABEL_SMOOTHING = 0.1
_SWITCH_SECONDS = 5e-4
"""Threads hand the interpreter over this often while they build and call networks; Python's default of 5 ms starves them."""
Gradients = tuple[float, dict[str, Tensor]]


def step_architectures(supernet: Supernet, seed: int, step: int, random_ones: int) -> list[Architecture]:
    """The architectures of a step, the largest first; a function of seed and step number alone.

    In the largest and the smallest the kinds of operators are drawn anew each time, so that every operator is trained at
    both ends of every size.
    """
    rng = random.Random(f"sandwich:{seed}:{step}")
    space = supernet.space
    drawn = [space.largest(rng), space.smallest(rng)]
    return drawn + [space.sample(rng) for _ in range(random_ones)]


class Sandwich:
    """Gradients of one step's architectures, computed side by side in `threads` threads.

    The networks of a step are independent but for the largest one's predictions, and each is made of operations too small to
    be shared among cores: two cores run two networks almost twice as fast as one, but one network hardly faster. Each network
    computes alone what it would compute in turn, and the sums are taken in one order, so the answer does not depend on
    `threads` as long as an operation has one (`torch.set_num_threads(1)`).
    """

    def __init__(self, supernet: Supernet, data: DataSplits, threads: int = 1) -> None:
        self.supernet, self.data = supernet, data
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) if threads > 1 else None

    def __enter__(self) -> Self:
        self._interval = sys.getswitchinterval()
        if self._pool is not None:
            sys.setswitchinterval(_SWITCH_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._interval)
        if self._pool is not None:
            self._pool.shutdown()

    def backward(self, architectures: list[Architecture], images: Tensor, labels: Tensor) -> float:
        """Accumulate the gradients of a step in the store and return the largest network's loss.

        The first architecture learns from the labels; the others from its predictions (in-place distillation: Yu et al.
        2020, BigNAS, arXiv:2003.11142, section 3.1) and, in equal parts, from the labels, without which the first epochs
        would only copy an untrained teacher.
        """
        teacher: Future[Tensor] = Future()
        largest, *others = architectures
        work = [partial(self._largest, largest, images, labels, teacher)]
        work += [partial(self._other, architecture, images, labels, teacher) for architecture in others]
        pool = self._pool
        pending = None if pool is None else [pool.submit(one) for one in work]
        found = [one() for one in work] if pending is None else [future.result() for future in pending]
        for architecture, (_, gradients) in zip(architectures, found, strict=True):
            self.supernet.accumulate(architecture, gradients)
        return found[0][0]

    def _largest(self, architecture: Architecture, images: Tensor, labels: Tensor, teacher: Future[Tensor]) -> Gradients:
        try:
            leaves = self.supernet.leaves(architecture)
            logits = self._logits(architecture, images, leaves)
        except BaseException as error:
            teacher.set_exception(error)
            raise
        teacher.set_result(logits.detach().softmax(1))
        return _gradients(F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING), leaves)

    def _other(self, architecture: Architecture, images: Tensor, labels: Tensor, teacher: Future[Tensor]) -> Gradients:
        leaves = self.supernet.leaves(architecture)
        logits = self._logits(architecture, images, leaves)
        hard = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        return _gradients(0.5 * hard + 0.5 * F.cross_entropy(logits, teacher.result()), leaves)

    def _logits(self, architecture: Architecture, images: Tensor, leaves: dict[str, Tensor]) -> Tensor:
        return self.supernet.run(self.data.prepare(images, architecture.resolution), architecture, leaves)


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> Gradients:
    """The loss, and its gradients by the leaves that it depends on."""
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return float(loss.detach()), {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
