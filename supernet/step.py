"""One training step: the gradients of all networks that a strategy names, summed in the store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.supernet.data import DataSplits
from nas.supernet.distillation import DISTANCES
from nas.supernet.layout import laid_out
from nas.supernet.merging import project
from nas.supernet.strategies import Lesson, StepPlan
from nas.supernet.supernet import Supernet
from nas.supernet.workers import Alone, Workers

_SWITCH_SECONDS = 5e-4
"""Threads hand the interpreter over this often while they build and call networks; Python's default of 5 ms starves them."""
_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16}
_PIECE = 8
"""So many images a teacher from outside sees at a time on a CPU: at published resolutions one thread is no slower so."""
Teacher = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) from 0 to 255 -> probabilities (B, classes), image by image; several threads may ask at once."""


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How the networks of a step compute.

    `threads` of them side by side; labels smoothed; in `precision` fp32, or bf16 where operations allow; with
    `checkpointing` each node's inner values computed again in the backward pass instead of kept. A `teacher` from outside
    has the part `teacher_share` in what every network learns from labels; what it learns from another network of the step stays
    as the strategy says. Images are brought into `memory_format` (`nas.supernet.layout`); None: as they come.
    """

    threads: int = 1
    label_smoothing: float = 0.1
    precision: str = "fp32"
    checkpointing: bool = False
    teacher: Teacher | None = None
    teacher_share: float = 0.5
    memory_format: str | None = None
    workers: Workers = field(default_factory=Alone)


@dataclass(frozen=True)
class _Batch:
    """This worker's images of a lesson, their labels, the outside teacher's word on them, and how much they count."""

    images: Tensor
    labels: Tensor
    taught: Tensor | None
    share: float


class StepRunner:
    """Gradients of one step's networks, computed side by side in threads.

    The networks of a step are independent but for their teachers' predictions, and each is made of operations too small to
    be shared among cores: two cores run two networks almost twice as fast as one, but one network hardly faster. Each network
    computes alone what it would compute in turn, and the sums are taken in one order, so the answer does not depend on
    `threads` as long as an operation has one (`torch.set_num_threads(1)`).
    """

    def __init__(self, supernet: Supernet, data: DataSplits, options: StepOptions | None = None) -> None:
        self.supernet, self.data, self.options = supernet, data, options or StepOptions()
        threads = self.options.threads
        self._held: dict[str, Tensor] = {}
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

    def backward(self, plan: StepPlan, images: Tensor, labels: Tensor, scale: float = 1.0, *, last: bool = True) -> float:
        """Add `scale` times the gradients of a step to the store and return the first network's loss.

        `images` (B, C, H, W) and `labels` (class indices or probabilities) are the whole batch, or one of several parts of it,
        of which gradients that are to be projected wait for the `last`; each worker takes its share.
        """
        shown: dict[tuple[int, int], Tensor] = {}
        predictions: list[Future[Tensor]] = [Future() for _ in plan.lessons]
        work = [
            partial(self._learn, lesson, self._share(lesson, images, labels, shown), predictions, index, scale)
            for index, lesson in enumerate(plan.lessons)
        ]
        first = torch.zeros(())
        for index, (value, gradients) in enumerate(self._results(work)):
            if index == 0:
                first = value
            if index == 0 and plan.project:
                self._held = {name: g + self._held[name] if self._held else g for name, g in gradients.items()}
            else:
                self.supernet.accumulate(plan.lessons[index].architecture, gradients)
            gradients = {}  # or they would lie amid what the next network keeps for its backward pass
        if self.options.workers.size > 1:
            self.options.workers.sum([first, *(self._gathered(plan) if last else ())])
        if plan.project and last:
            self._project(plan.lessons[0], self._held)
            self._held = {}
        return float(first)

    def _gathered(self, plan: StepPlan) -> list[Tensor]:
        """All gradients of a step, which go to the other workers in one message: each one waits for the slowest worker.

        Only the parts of the store that the step's networks use; the rest is zero for every worker.
        """
        touched = self.supernet.touched([lesson.architecture for lesson in plan.lessons])
        found = ((self.supernet.store[key].grad, block) for key, block in touched.items())
        return [*self._held.values(), *(gradient[block] for gradient, block in found if gradient is not None)]

    def _results(
        self, work: Sequence[Callable[[], tuple[Tensor, dict[str, Tensor]]]]
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """What each piece of work gives, in order; without threads each is done when the one before has been used."""
        if self._pool is None:
            yield from (one() for one in work)
        else:
            yield from (future.result() for future in [self._pool.submit(one) for one in work])

    def _share(self, lesson: Lesson, images: Tensor, labels: Tensor, shown: dict[tuple[int, int], Tensor]) -> _Batch:
        """Every `size`-th image of the lesson's rows, counted so that the sum over workers is the mean over the rows.

        `shown` keeps what the outside teacher has said on the same rows.
        """
        begin, end = (round(edge * len(images)) for edge in lesson.rows)
        workers = self.options.workers
        mine = slice(begin + workers.rank, end, workers.size)
        count = len(range(begin + workers.rank, end, workers.size))
        assert count, "every worker has an image of every lesson"
        if self.options.teacher is not None and (begin, end) not in shown:
            shown[begin, end] = self._taught(self.options.teacher, images[mine])
        return _Batch(images[mine], labels[mine], shown.get((begin, end)), count / (end - begin))

    def _taught(self, teacher: Teacher, images: Tensor) -> Tensor:
        """The outside teacher's probabilities (B, classes) for images (B, C, H, W): on a CPU piece by piece, side by side.

        The pieces are the same for any number of threads: how many images go together decides the last bits.
        """

        def ask(piece: Tensor) -> Tensor:
            with torch.no_grad():  # holds for the thread that enters it alone
                return teacher(piece)

        pieces = images.split(_PIECE) if images.device.type == "cpu" else (images,)
        return torch.cat(list(map(ask, pieces) if self._pool is None else self._pool.map(ask, pieces)))

    def _learn(
        self, lesson: Lesson, batch: _Batch, predictions: list[Future[Tensor]], index: int, scale: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss and the gradients of one network, as this worker's share of the sum over workers."""
        try:
            leaves = self.supernet.leaves(lesson.architecture)
            logits = self._logits(lesson, batch.images, leaves)
        except BaseException as error:
            predictions[index].set_exception(error)
            raise
        predictions[index].set_result(logits.detach().softmax(1))
        loss = self._loss(lesson, logits, batch, predictions) * batch.share
        found = torch.autograd.grad(loss * (lesson.weight * scale), list(leaves.values()), allow_unused=True)
        return loss.detach().clone(), {name: g for name, g in zip(leaves, found, strict=True) if g is not None}

    def _logits(self, lesson: Lesson, images: Tensor, leaves: dict[str, Tensor]) -> Tensor:
        prepared = laid_out(self.data.prepare(images, lesson.architecture.resolution), self.options.memory_format)
        kind = _AUTOCAST[self.options.precision]
        with torch.autocast(prepared.device.type, dtype=kind, enabled=kind is not None):
            run = self.supernet.run_checkpointed if self.options.checkpointing else self.supernet.run
            return run(prepared, lesson.architecture, leaves).float()

    def _loss(self, lesson: Lesson, logits: Tensor, batch: _Batch, predictions: list[Future[Tensor]]) -> Tensor:
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.options.label_smoothing)
        if batch.taught is not None:
            share = self.options.teacher_share
            loss = (1.0 - share) * loss + share * DISTANCES["soft"](logits, batch.taught)
        if lesson.teacher is None:
            return lesson.labels * loss
        return lesson.labels * loss + lesson.distil * DISTANCES[lesson.distance](logits, predictions[lesson.teacher].result())

    def _project(self, lesson: Lesson, gradients: dict[str, Tensor]) -> None:
        """Merge the first network's gradients with those of the others, which are in the store."""
        others = {key: tensor.grad for key, tensor in self.supernet.store.items()}
        for tensor in self.supernet.store.values():
            tensor.grad = None
        self.supernet.accumulate(lesson.architecture, gradients)
        for key, tensor in self.supernet.store.items():
            beside = others[key]
            if beside is not None:
                tensor.grad = beside if tensor.grad is None else project(beside, tensor.grad)
