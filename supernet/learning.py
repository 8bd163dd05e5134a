"""One step of training one network: what a training of epochs and an adaptation of few steps have in common."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import DivergedError
from nas.supernet.schedule import warm_cosine


class StepRecipe(Protocol):
    """What a step asks of a recipe."""

    @property
    def learning_rate(self) -> float:
        """The peak."""

    @property
    def warmup(self) -> float:
        """The share of all steps that the rate rises in."""

    @property
    def label_smoothing(self) -> float:
        """The share of a label that all classes have."""

    @property
    def gradient_clip(self) -> float:
        """The largest norm of all gradients together."""


def take_step(
    network: nn.Module,
    logits: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: StepRecipe,
    step: int,
    steps: int,
) -> float:
    """Let the optimiser take step number `step` of `steps`, at the rate of the schedule, and return the loss before it.

    `logits` are the network's, (B, classes), `labels` class indices (B,) or probabilities (B, classes). Raises DivergedError
    where the loss is not finite, with the weights as they were.
    """
    for group in optimizer.param_groups:
        group["lr"] = warm_cosine(recipe.learning_rate, recipe.warmup, step, steps)
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergedError(f"the loss is {value} at step {step}: lower the learning rate (now {recipe.learning_rate:g})")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip, foreach=True)
    optimizer.step()
    return value
