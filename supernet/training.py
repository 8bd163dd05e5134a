"""Training of the supernet, resumable bit for bit on CPU: all draws depend on the seed and the step number alone."""

from __future__ import annotations

import contextlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import FileError, UsageError
from nas.search_spaces.backbone import Backbone
from nas.supernet.augmentation import Augmentation
from nas.supernet.averaging import AveragedWeights
from nas.supernet.calibration import calibrate, score
from nas.supernet.checkpoint import load_checkpoint, read_progress, save_checkpoint
from nas.supernet.data import DataSplits
from nas.supernet.engine import AUTO, Engine, Tell, keep_engine, kept_engine, silent, tried_on
from nas.supernet.engine_trials import faster_format, forked_random, wait_for
from nas.supernet.guard import DivergenceGuard
from nas.supernet.importance import reorder
from nas.supernet.pretrained import start_from
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.schedule import adamw, drawing_seed, rate_in_phases
from nas.supernet.step import StepOptions, StepRunner, Teacher
from nas.supernet.strategies import Draw, Phase, training_strategy
from nas.supernet.supernet import Supernet
from nas.supernet.workers import Alone, Workers

__all__ = ["Progress", "TrainingHistory", "TrainingRecipe", "train", "trained_epochs"]

SAVE_STEPS = 100
"""A checkpoint is written at the end of an epoch, and within one after so many steps, on which all workers agree."""
Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a word on the state."""


@dataclass
class TrainingHistory:
    """One row an epoch: epoch, mean loss of the largest, validation accuracy of largest and smallest, seconds, and those that
    this process computed, of all its threads.

    `rollbacks` has a row for each return to a checkpoint: from which step to which, and the loss (-1: not a number).
    """

    rows: list[dict[str, float]]
    rollbacks: list[dict[str, float]] = field(default_factory=list)


def train(
    supernet: Supernet,
    data: DataSplits,
    recipe: TrainingRecipe,
    checkpoint: Path,
    progress: Progress | None = None,
    threads: int = 1,
    *,
    teacher: Teacher | None = None,
    workers: Workers | None = None,
    pretrained: Backbone | None = None,
    tell: Tell = silent,
) -> TrainingHistory:
    """Train, or go on from `checkpoint`, which is written after every epoch and every hundred steps.

    The result depends on neither `threads` nor on how often the training was interrupted. `teacher` gives probabilities for
    the images, `workers` share each batch, `pretrained` gives the first weights where there is no checkpoint. `tell` hears
    how the networks compute, where that was tried. Raises FileError for a damaged checkpoint or one of another training,
    UsageError where recipe and supernet keep other weights apart, NasError where the loss diverges again and again.
    """
    if recipe.unshared != str(supernet.sharing):
        told = [str(kept) or "nothing" for kept in (recipe.unshared, supernet.sharing)]
        raise UsageError(f"the recipe keeps {told[0]} apart, but the supernet was made to keep {told[1]} apart")
    if pretrained is not None and not checkpoint.exists():
        start_from(supernet, pretrained)
    with one_thread_an_operation():
        return _Training(supernet, data, recipe, checkpoint, progress, threads, teacher, workers or Alone(), tell).run()


def require_trainable(recipe: TrainingRecipe, data: DataSplits, workers: int = 1) -> None:
    """Raise UsageError or UnknownNameError, before anything is built, for a recipe that cannot be followed on the data."""
    training_strategy(recipe.strategy)
    Augmentation(recipe.augment, data)
    _steps_an_epoch(len(data.train), recipe, workers)


def training_identity(supernet: Supernet, data: DataSplits, recipe: TrainingRecipe) -> str:
    """A digest of space, images, recipe, classes and channels: what decides the trained weights on one worker.

    The weights of a teacher go in by their name alone, and the number of workers, which batch norms notice, not at all.
    """
    what: dict[str, Any] = {"space": supernet.space.to_mapping(), "data": data.fingerprint, "recipe": recipe.decisive()}
    what["classes"], what["channels"] = supernet.num_classes, supernet.in_channels
    if recipe.teacher:
        what["taught"] = "all networks of a step"
    return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()


def trained_epochs(checkpoint: Path) -> int:
    """How many epochs a checkpoint has behind it; 0 without one. Raises FileError for a damaged file."""
    return len(read_progress(checkpoint)["history"]) if checkpoint.exists() else 0


@contextlib.contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Operations of this thread are not split among cores, inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Training:
    """One training on its way."""

    def __init__(
        self,
        supernet: Supernet,
        data: DataSplits,
        recipe: TrainingRecipe,
        checkpoint: Path,
        progress: Progress | None,
        threads: int,
        teacher: Teacher | None,
        workers: Workers,
        tell: Tell,
    ) -> None:
        self.supernet, self.data, self.recipe, self.path = supernet, data, recipe, checkpoint
        self.progress, self.workers, self.tell = progress, workers, tell
        self.strategy = training_strategy(recipe.strategy)
        self.augment = Augmentation(recipe.augment, data)
        self.parameters = list(supernet.parameters())
        self.optimizer = adamw(supernet, recipe.learning_rate, recipe.weight_decay, (0.9, 0.99))
        self.average = AveragedWeights(supernet, recipe.ema)
        self.guard = DivergenceGuard(len(data.classes))
        self.identity = training_identity(supernet, data, recipe)
        self.epoch_steps = _steps_an_epoch(len(data.train), recipe, workers.size)
        self.steps = self.epoch_steps * recipe.epochs
        self.done, self.total, self.seconds, self.cpu_seconds = 0, 0.0, 0.0, 0.0
        self.history = TrainingHistory([])
        self.options = StepOptions(
            threads=threads, label_smoothing=recipe.label_smoothing, precision=recipe.precision, workers=workers,
            checkpointing=recipe.checkpointing, teacher=teacher, teacher_share=recipe.teacher_share,
        )  # fmt: skip

    def run(self) -> TrainingHistory:
        if self.path.exists():
            self._load()
        with StepRunner(self.supernet, self.data, self.options) as runner:
            if self.done < self.steps:
                runner.options = replace(self.options, memory_format=self._memory_format(runner))
            began = _clocks()
            while self.done < self.steps:
                loss = self._step(runner)
                if self.guard.diverged(loss):
                    self._roll_back(loss)
                    continue
                self._move(loss)
                self._tell(loss)
                if self.done % self.epoch_steps == 0:
                    self._count(began)
                    self._end_epoch()
                    began = _clocks()
                elif self.done % self.epoch_steps % SAVE_STEPS == 0:
                    self._count(began)
                    self._save()
                    began = _clocks()
        self.average.keep()
        self.history.rollbacks = self.guard.rollbacks
        return self.history

    def _step(self, runner: StepRunner) -> float:
        """The clipped gradients of the next step, in the store; the loss of its first network, or what is not finite."""
        step, strategy, recipe = self.done, self.strategy, self.recipe
        if any(phase.reorder and step == phase.first_step(self.steps) for phase in strategy.phases):
            reorder(self.supernet, self._companions())
        self.supernet.train()
        self.optimizer.zero_grad(set_to_none=True)
        seed = recipe.seed + 7919 * len(self.guard.rollbacks)
        draw = Draw(self.supernet.space, seed, step, self.steps, recipe.networks)
        plan = strategy.plan(draw)
        images, labels = self._batch(seed, step)
        loss = 0.0
        for turn in range(recipe.accumulate):
            rows, last = slice(turn, None, recipe.accumulate), turn == recipe.accumulate - 1
            share = len(images[rows]) / len(images)
            loss += share * runner.backward(plan, images[rows], labels[rows], share, last=last)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, recipe.gradient_clip, foreach=True))
        return loss if math.isfinite(norm) else norm

    def _memory_format(self, runner: StepRunner) -> str:
        """The recipe's, that of a training which is gone on with, or the one in which the first worker's steps are faster."""
        wish, device = self.recipe.wish, self.supernet.device
        if wish.memory_format != AUTO or not tried_on(device):
            return Engine.wished(wish).memory_format
        if self.workers.rank == 0 and kept_engine(self.path, wish) is None:
            engine = faster_format(self._trial(runner))
            self.supernet.zero_grad(set_to_none=True)
            keep_engine(self.path, wish, engine, self.tell)
        self.workers.wait()
        return (kept_engine(self.path, wish) or Engine()).memory_format

    def _trial(self, runner: StepRunner) -> Callable[[str], None]:
        """A function that computes a step from the middle of the training in a memory format, as one worker alone."""
        recipe = self.recipe
        plan = self.strategy.plan(Draw(self.supernet.space, recipe.seed, self.steps // 2, self.steps, recipe.networks))
        images, labels = (part[:: recipe.accumulate] for part in self._batch(recipe.seed, 0))
        self.supernet.train()

        def step(memory_format: str) -> None:
            runner.options = replace(self.options, memory_format=memory_format, workers=Alone())
            with forked_random(self.supernet.device):
                runner.backward(plan, images, labels)
            wait_for(self.supernet.device)

        return step

    def _batch(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """The augmented images of a step and their labels, moved to the store's device before they are augmented."""
        epoch, index = divmod(step, self.epoch_steps)
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(drawing_seed(seed, epoch)))
        part = self.data.train.take(order[index * self.recipe.batch : (index + 1) * self.recipe.batch]).to(self.supernet.device)
        return self.augment(part.images, part.labels, drawing_seed(seed, step))

    def _move(self, loss: float) -> None:
        """Let the weights take the step."""
        recipe = self.recipe
        rate = rate_in_phases(recipe.learning_rate, recipe.warmup, self.done, self.steps, self.strategy.phases)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.guard.factor
        self.optimizer.step()
        self.average.update()
        self.total += loss
        self.done += 1

    def _tell(self, loss: float) -> None:
        if self.progress is not None:
            epoch = math.ceil(self.done / self.epoch_steps)
            self.progress(self.done, self.steps, f"epoch {epoch}/{self.recipe.epochs}, loss {loss:.2f}")

    def _count(self, began: tuple[float, float]) -> None:
        """Add what has passed since, by the wall and by the processor, to the epoch's seconds."""
        wall, cpu = _clocks()
        self.seconds, self.cpu_seconds = self.seconds + wall - began[0], self.cpu_seconds + cpu - began[1]

    def _end_epoch(self) -> None:
        epoch = self.done // self.epoch_steps
        with self.average.applied():
            row = {"epoch": float(epoch), "loss": self.total / self.epoch_steps, **_corners(self.supernet, self.data)}
        self.history.rows.append({**row, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds})
        self.total, self.seconds, self.cpu_seconds = 0.0, 0.0, 0.0
        self._save()

    def _roll_back(self, loss: float) -> None:
        """Return to the last checkpoint, of which all steps were good; the same step would fail again, so draw otherwise."""
        behind = int(read_progress(self.path)["step"]) if self.path.exists() else None
        self.guard.roll_back(self.done, behind, loss, self.recipe.learning_rate)
        self._load()

    def _companions(self) -> list[dict[str, Tensor]]:
        """Tensors that go with the store's: the optimiser's moments, the averages."""
        moments: dict[str, dict[str, Tensor]] = {}
        for key, parameter in self.supernet.store.items():
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if value.shape == parameter.shape:
                    moments.setdefault(name, {})[key] = value
        return [*moments.values(), {name.removeprefix("store."): value for name, value in self.average.tensors.items()}]

    def _save(self) -> None:
        if self.workers.rank == 0:
            progress = {
                "step": self.done, "total": self.total, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds,
                "history": self.history.rows, "guard": self.guard.state(), "averaged": self.average.steps,
                "epoch_steps": self.epoch_steps, "phases": self._phases(),
            }  # fmt: skip
            save_checkpoint(self.path, self.supernet, self.optimizer, self.identity, progress, self.average.state())
        self.workers.wait()

    def _load(self) -> None:
        saved, averages = load_checkpoint(self.path, self.supernet, self.optimizer, self.identity)
        self._keep_epochs(int(saved.get("epoch_steps", self.epoch_steps)))
        if int(saved["step"]) < self.steps and saved.get("phases", [asdict(Phase())]) != self._phases():
            raise FileError(
                f"checkpoint {self.path} was trained by other phases of strategy {self.recipe.strategy} than this program has, "
                "and is not finished: choose another --out"
            )
        self.done, self.total, self.seconds = int(saved["step"]), float(saved["total"]), float(saved["seconds"])
        self.cpu_seconds = float(saved.get("cpu_seconds", 0.0))
        self.history = TrainingHistory(list(saved["history"]))
        self.guard.restore(saved["guard"])
        self.average.restore(averages, int(saved["averaged"]))

    def _phases(self) -> list[dict[str, Any]]:
        return [asdict(phase) for phase in self.strategy.phases]

    def _keep_epochs(self, steps: int) -> None:
        """Go on with epochs of as many steps as the training began with: fewer or more workers may share other rests."""
        if steps > self.epoch_steps:
            raise UsageError(
                f"the training began with {steps} steps an epoch, of which the last is too small for {self.workers.size} "
                "workers: go on with as many as before"
            )
        self.epoch_steps, self.steps = steps, steps * self.recipe.epochs


def _clocks() -> tuple[float, float]:
    """Seconds by the wall, and seconds that this process has computed."""
    return time.perf_counter(), time.process_time()


def _steps_an_epoch(images: int, recipe: TrainingRecipe, workers: int) -> int:
    """The last, smaller batch counts where all networks, workers and turns can share it.

    Raises UsageError for batches that are too small to share among workers, turns and, where the strategy has them share a
    batch out, networks.
    """
    networks = recipe.networks if training_strategy(recipe.strategy).splits else 1
    shared = workers * recipe.accumulate * networks
    if recipe.batch < shared or images < shared:
        raise UsageError(
            f"a batch of {min(recipe.batch, images)} images cannot be shared by {workers} workers, {recipe.accumulate} turns "
            f"and {networks} networks: raise the batch to at least {shared}"
        )
    whole, rest = divmod(images, recipe.batch)
    return whole + (rest >= workers * recipe.accumulate * recipe.networks) if whole else 1


def _corners(supernet: Supernet, data: DataSplits) -> dict[str, float]:
    """Validation accuracy of one fixed largest and one fixed smallest architecture."""
    found = {}
    for name in ("largest", "smallest"):
        architecture = getattr(supernet.space, name)(random.Random("corner"))
        network = supernet.extract(architecture).eval()
        calibrate(network, data, architecture.resolution)
        found[name] = score(network, data, data.validation, architecture.resolution).accuracy
    return found
