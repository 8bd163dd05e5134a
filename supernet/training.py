"""Training of the supernet, resumable bit for bit on CPU: all draws depend on the seed and the step number alone."""

from __future__ import annotations

import contextlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from nas.errors import NasError
from nas.supernet.calibration import calibrate, score
from nas.supernet.checkpoint import load_checkpoint, read_progress, save_checkpoint
from nas.supernet.data import DataSplits
from nas.supernet.sandwich import Sandwich, step_architectures
from nas.supernet.schedule import adamw, warm_cosine
from nas.supernet.supernet import Supernet

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a word on the state."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How a supernet is trained: AdamW, linear warm-up, cosine decay to zero."""

    epochs: int = 6
    batch: int = 32
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    gradient_clip: float = 1.0
    random_architectures: int = 2
    seed: int = 0


@dataclass
class TrainingHistory:
    """One row an epoch: epoch, mean loss of the largest, validation accuracy of largest and smallest, seconds."""

    rows: list[dict[str, float]]


def train(
    supernet: Supernet,
    data: DataSplits,
    recipe: TrainingRecipe,
    checkpoint: Path,
    progress: Progress | None = None,
    threads: int = 1,
) -> TrainingHistory:
    """Train, or go on from `checkpoint`, which is written after every epoch.

    The networks of a step run side by side in `threads` threads, which changes no bit of the answer.
    Raises FileError for a damaged or foreign checkpoint and NasError where the loss is not finite.
    """
    optimizer = adamw(supernet, recipe.learning_rate, recipe.weight_decay, (0.9, 0.99))
    identity = training_identity(supernet, data, recipe)
    steps = max(1, math.ceil(len(data.train) / recipe.batch))
    done, history = 0, TrainingHistory([])
    if checkpoint.exists():
        saved = load_checkpoint(checkpoint, supernet, optimizer, identity)
        done, history = int(saved["epoch"]), TrainingHistory(saved["history"])
    with one_thread_an_operation(), Sandwich(supernet, data, threads) as sandwich:
        for epoch in range(done, recipe.epochs):
            began = time.perf_counter()
            loss = _epoch(sandwich, recipe, optimizer, epoch, steps, progress)
            row = {"epoch": float(epoch + 1), "loss": loss, **_corners(supernet, data)}
            history.rows.append({**row, "seconds": time.perf_counter() - began})
            save_checkpoint(checkpoint, supernet, optimizer, identity, {"epoch": epoch + 1, "history": history.rows})
    return history


def training_identity(supernet: Supernet, data: DataSplits, recipe: TrainingRecipe) -> str:
    """A digest of everything that decides the trained weights."""
    what: dict[str, Any] = {"space": supernet.space.to_mapping(), "data": data.fingerprint, "recipe": asdict(recipe)}
    what["classes"], what["channels"] = supernet.num_classes, supernet.in_channels
    return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()


def trained_epochs(checkpoint: Path) -> int:
    """How many epochs a checkpoint has behind it; 0 without one. Raises FileError for a damaged file."""
    return int(read_progress(checkpoint)["epoch"]) if checkpoint.exists() else 0


@contextlib.contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Operations of this thread are not split among cores, inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _epoch(
    sandwich: Sandwich,
    recipe: TrainingRecipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    steps: int,
    progress: Progress | None,
) -> float:
    supernet, data = sandwich.supernet, sandwich.data
    supernet.train()
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data.train), generator=generator)
    total = 0.0
    for index in range(steps):
        step = epoch * steps + index
        for group in optimizer.param_groups:
            group["lr"] = warm_cosine(recipe.learning_rate, recipe.warmup, step, steps * recipe.epochs)
        batch = data.train.take(order[index * recipe.batch : (index + 1) * recipe.batch])
        images = data.augment(batch.images, generator)
        optimizer.zero_grad(set_to_none=True)
        drawn = step_architectures(supernet, recipe.seed, step, recipe.random_architectures)
        loss = sandwich.backward(drawn, images, batch.labels)
        if not math.isfinite(loss):
            raise NasError(
                f"the loss is {loss} at step {step}: lower the learning rate (now {recipe.learning_rate:g}; `training` in "
                "config.yaml) and start anew"
            )
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), recipe.gradient_clip)
        optimizer.step()
        total += loss
        if progress is not None:
            progress(step + 1, steps * recipe.epochs, f"epoch {epoch + 1}/{recipe.epochs}, loss {loss:.2f}")
    return total / steps


def _corners(supernet: Supernet, data: DataSplits) -> dict[str, float]:
    """Validation accuracy of one fixed largest and one fixed smallest architecture."""
    found = {}
    for name in ("largest", "smallest"):
        architecture = getattr(supernet.space, name)(random.Random("corner"))
        network = supernet.extract(architecture).eval()
        calibrate(network, data, architecture.resolution)
        found[name] = score(network, data, data.validation, architecture.resolution).accuracy
    return found
