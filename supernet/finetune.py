"""Training one network alone: the winner of a search, from inherited or fresh weights. Resumable bit for bit on CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.supernet.augmentation import Augmentation
from nas.supernet.calibration import device_of, score
from nas.supernet.checkpoint import load_checkpoint, save_checkpoint
from nas.supernet.data import DataSplits
from nas.supernet.engine import AUTO, Tell, Wish, silent, without_engine
from nas.supernet.engine_trials import Trial, begin_alone
from nas.supernet.layout import laid_out
from nas.supernet.learning import take_step
from nas.supernet.recipe import require_rates
from nas.supernet.schedule import adamw, drawing_seed

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """How one network is trained: AdamW, linear warm-up, cosine decay to zero, label smoothing, augmented images.

    `memory_format` (auto, channels_last, contiguous) and `compile` (auto, on, off) say how it computes (`nas.supernet.engine`):
    they change the last bits alone, and recipes that differ in nothing else are equal.
    """

    epochs: int = 6
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    gradient_clip: float = 5.0
    augment: str = "move"
    seed: int = 0
    memory_format: str = field(default=AUTO, repr=False, compare=False)
    compile: str = field(default=AUTO, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises UsageError for a number outside its range, or an unknown word."""
        require_rates(self.learning_rate, self.weight_decay, self.gradient_clip)
        _ = self.wish

    @property
    def wish(self) -> Wish:
        """How it should compute."""
        return Wish(self.memory_format, self.compile)

    def decisive(self) -> dict[str, Any]:
        """The fields that decide the weights, but for rounding."""
        return without_engine(asdict(self))


def finetune(
    network: nn.Module,
    data: DataSplits,
    recipe: FinetuneRecipe,
    resolution: int,
    checkpoint: Path,
    identity: str,
    progress: Progress | None = None,
    tell: Tell = silent,
) -> list[dict[str, float]]:
    """Train in place, or go on from `checkpoint`, and return one row an epoch: loss and validation accuracy.

    `identity` names the network and recipe that a checkpoint must belong to. `tell` hears how the network computes, where that
    was tried. Raises FileError for a foreign checkpoint and DivergedError where the loss is not finite.
    """
    optimizer = adamw(network, recipe.learning_rate, recipe.weight_decay, (0.9, 0.999))
    augment = Augmentation(recipe.augment, data)
    steps = max(1, math.ceil(len(data.train) / recipe.batch))
    done, rows = 0, []
    if checkpoint.exists():
        saved, _ = load_checkpoint(checkpoint, network, optimizer, identity)
        done, rows = int(saved["epoch"]), list(saved["rows"])
    left = (recipe.epochs - done) * steps
    logits = _logits(network, data, recipe, resolution, checkpoint, left, tell) if left else network
    for epoch in range(done, recipe.epochs):
        loss = _epoch(network, logits, data, augment, recipe, optimizer, epoch, steps, progress)
        accuracy = score(network, data, data.validation, resolution).accuracy
        rows.append({"epoch": float(epoch + 1), "loss": loss, "accuracy": accuracy})
        save_checkpoint(checkpoint, network, optimizer, identity, {"epoch": epoch + 1, "rows": rows})
    network.eval()
    return rows


def _logits(
    network: nn.Module, data: DataSplits, recipe: FinetuneRecipe, resolution: int, checkpoint: Path, steps: int, tell: Tell
) -> Callable[[Tensor], Tensor]:
    """The function from augmented images (B, C, H, W) to logits, as the network's engine computes them."""

    def batch() -> tuple[Tensor, Tensor]:
        some = data.train.take(torch.arange(min(recipe.batch, len(data.train)))).to(device_of(network))
        return data.prepare(some.images, resolution), some.labels

    engine, forward = begin_alone(Trial(network, batch, recipe.label_smoothing), recipe.wish, checkpoint, steps, tell)

    def logits(images: Tensor) -> Tensor:
        whole = len(images) == min(recipe.batch, len(data.train))  # it is compiled for these; another size would compile anew
        prepared = laid_out(data.prepare(images, resolution), engine.memory_format)
        return forward(prepared) if whole else network(prepared)  # type: ignore[no-any-return]

    return logits


def _epoch(
    network: nn.Module,
    logits: Callable[[Tensor], Tensor],
    data: DataSplits,
    augment: Augmentation,
    recipe: FinetuneRecipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    steps: int,
    progress: Progress | None,
) -> float:
    network.train()
    generator = torch.Generator().manual_seed(drawing_seed(recipe.seed, epoch))
    order = torch.randperm(len(data.train), generator=generator)
    total, device = 0.0, device_of(network)
    for index in range(steps):
        step = epoch * steps + index
        batch = data.train.take(order[index * recipe.batch : (index + 1) * recipe.batch]).to(device)
        images, labels = augment(batch.images, batch.labels, drawing_seed(recipe.seed, step))
        value = take_step(network, logits(images), labels, optimizer, recipe, step, steps * recipe.epochs)
        total += value
        if progress is not None:
            progress(step + 1, steps * recipe.epochs, f"epoch {epoch + 1}/{recipe.epochs}, loss {value:.2f}")
    return total / steps
