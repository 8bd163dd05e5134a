"""Batch-norm statistics and scores of one extracted network; the supernet is never touched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.supernet.data import DataSplits, ImageSet

_BATCH = 128
_CALIBRATION_IMAGES = 128


@dataclass(frozen=True)
class Score:
    """The share of images classified rightly, and the mean cross-entropy in nats."""

    accuracy: float
    loss: float


def calibrate(network: nn.Module, data: DataSplits, resolution: int) -> None:
    """Replace the running statistics of all batch norms by the means over some training images.

    The weights of a supernet fit many networks, running statistics only one. Nothing happens without batch norms.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    before = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for batch in calibration_index(len(data.train)).split(_BATCH):
            network(data.prepare(data.train.images[batch].to(device_of(network)), resolution))
    for norm, momentum in before:
        norm.momentum = momentum
        norm.eval()


def calibration_index(images: int) -> Tensor:
    """Training images at equal steps: sources list images class by class, and the first ones would be of one class."""
    return torch.linspace(0, images - 1, min(_CALIBRATION_IMAGES, images)).round().long()


def device_of(network: nn.Module) -> torch.device:
    """Where its parameters are; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def score(network: nn.Module, data: DataSplits, part: ImageSet, resolution: int) -> Score:
    """Accuracy and loss of a network in evaluation mode on one split."""
    network.eval()
    right, loss, device = 0, 0.0, device_of(network)
    with torch.inference_mode():
        for start in range(0, len(part), _BATCH):
            logits = network(data.prepare(part.images[start : start + _BATCH].to(device), resolution))
            labels = part.labels[start : start + _BATCH].to(device)
            right += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return Score(right / len(part), loss / len(part))
