"""Training one network alone: the winner of a search, from inherited or fresh weights. Resumable bit for bit on CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from nas.errors import NasError
from nas.supernet.augmentation import Augmentation
from nas.supernet.calibration import device_of, score
from nas.supernet.checkpoint import load_checkpoint, save_checkpoint
from nas.supernet.data import DataSplits
from nas.supernet.recipe import require_rates
from nas.supernet.schedule import adamw, drawing_seed, warm_cosine

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """How one network is trained: AdamW, linear warm-up, cosine decay to zero, label smoothing, augmented images."""

    epochs: int = 6
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    gradient_clip: float = 5.0
    augment: str = "move"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for a number outside its range."""
        require_rates(self.learning_rate, self.weight_decay, self.gradient_clip)


def finetune(
    network: nn.Module,
    data: DataSplits,
    recipe: FinetuneRecipe,
    resolution: int,
    checkpoint: Path,
    identity: str,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train in place, or go on from `checkpoint`, and return one row an epoch: loss and validation accuracy.

    `identity` names the network and recipe that a checkpoint must belong to. Raises FileError for a foreign checkpoint and
    NasError where the loss is not finite.
    """
    optimizer = adamw(network, recipe.learning_rate, recipe.weight_decay, (0.9, 0.999))
    augment = Augmentation(recipe.augment, data)
    steps = max(1, math.ceil(len(data.train) / recipe.batch))
    done, rows = 0, []
    if checkpoint.exists():
        saved, _ = load_checkpoint(checkpoint, network, optimizer, identity)
        done, rows = int(saved["epoch"]), list(saved["rows"])
    for epoch in range(done, recipe.epochs):
        loss = _epoch(network, data, augment, recipe, optimizer, resolution, epoch, steps, progress)
        accuracy = score(network, data, data.validation, resolution).accuracy
        rows.append({"epoch": float(epoch + 1), "loss": loss, "accuracy": accuracy})
        save_checkpoint(checkpoint, network, optimizer, identity, {"epoch": epoch + 1, "rows": rows})
    network.eval()
    return rows


def _epoch(
    network: nn.Module,
    data: DataSplits,
    augment: Augmentation,
    recipe: FinetuneRecipe,
    optimizer: torch.optim.Optimizer,
    resolution: int,
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
        for group in optimizer.param_groups:
            group["lr"] = warm_cosine(recipe.learning_rate, recipe.warmup, step, steps * recipe.epochs)
        batch = data.train.take(order[index * recipe.batch : (index + 1) * recipe.batch]).to(device)
        images, labels = augment(batch.images, batch.labels, drawing_seed(recipe.seed, step))
        optimizer.zero_grad(set_to_none=True)
        logits = network(data.prepare(images, resolution))
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NasError(f"the loss is {value} at step {step}: lower the learning rate (now {recipe.learning_rate:g})")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip, foreach=True)
        optimizer.step()
        total += value
        if progress is not None:
            progress(step + 1, steps * recipe.epochs, f"epoch {epoch + 1}/{recipe.epochs}, loss {value:.2f}")
    return total / steps
