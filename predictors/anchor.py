"""The anchor: a fixed workload that is timed beside every network, so that a machine that slows down is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas.predictors.device import device
from nas.predictors.runtime import runtime

if TYPE_CHECKING:
    from nas.predictors.target import Target


class Anchor(nn.Module):
    """Convolution, matrix product and element-wise work in the proportions of a small backbone; about 1 ms on one core."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 4, 4)
        self.depthwise = nn.Conv2d(48, 48, 5, padding=2, groups=48)
        self.norm = nn.LayerNorm(48)
        self.expand, self.reduce = nn.Linear(48, 192), nn.Linear(192, 48)

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, 64, 64) -> (1, 16, 16, 48)."""
        x: Tensor = self.conv(image)
        for _ in range(3):
            x = x + self.depthwise(x)
        y: Tensor = x.permute(0, 2, 3, 1)
        for _ in range(3):
            y = y + self.reduce(torch.relu(self.expand(self.norm(y))))
        return y


def anchor(target: Target) -> Callable[[], object]:
    """The anchor in eager mode and fp32 on the target's device, or on the CPU that drives a device without PyTorch."""
    from nas.predictors.target import Target

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, example = Anchor(), torch.rand(1, 3, 64, 64)
    return runtime("eager").prepare(module, example, Target(device(target.device).torch_device, "eager", target.threads))
