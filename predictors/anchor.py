"""The anchor: a fixed workload that is timed beside every network, so that a machine that slows down is noticed.

What disturbs a machine slows large products of matrices less than the starting of many small operations. An anchor is to slow
down as the networks do, so in eager mode, where starting them is half of the work, it has many small operations too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.predictors.device import device
from nas.predictors.runtime import runtime

if TYPE_CHECKING:
    from nas.predictors.target import Target

EAGER = "eager"


class Anchor(nn.Module):
    """Convolution, matrix product and element-wise work in the proportions of a small backbone; about 0.7 ms on one core."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 4, 4)
        self.depthwise = nn.Conv2d(48, 48, 5, padding=2, groups=48)
        self.norm = nn.LayerNorm(48)
        self.expand, self.reduce = nn.Linear(48, 192), nn.Linear(192, 48)

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, 64, 64) -> (1, 16, 16, 48)."""
        x: Tensor = self.conv(image)
        for _ in range(2):
            x = x + self.depthwise(x)
        y: Tensor = x.permute(0, 2, 3, 1)
        for _ in range(2):
            y = y + self.reduce(torch.relu(self.expand(self.norm(y))))
        return y


class DispatchAnchor(nn.Module):
    """`Anchor`, then blocks of a narrow backbone, whose operations take as long to start as to run; about 1 ms."""

    def __init__(self, width: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.width, self.large = width, Anchor()
        self.depthwise = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(blocks))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.expand = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.reduce = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(blocks))

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, 64, 64) -> (1, 8, 8, 24)."""
        x = self.large(image)[:, ::2, ::2, : self.width]
        for depthwise, norm, expand, reduce in zip(self.depthwise, self.norm, self.expand, self.reduce, strict=True):
            x = x + depthwise(norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            x = x + reduce(F.gelu(expand(x)))
        return x


def anchor(target: Target) -> Callable[[], object]:
    """The anchor in eager mode and fp32 on the target's device, or on the CPU that drives a device without PyTorch.

    Of a target at another place it is this machine's: nodes are timed here, and its ratio to the anchor there scales them.
    """
    from nas.predictors.target import Target

    starts_each = target.runtime == EAGER
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, example = DispatchAnchor() if starts_each else Anchor(), torch.rand(1, 3, 64, 64)
    beside = "cpu" if target.place else device(target.device).torch_device
    return runtime(EAGER).prepare(module, example, Target(beside, EAGER, target.threads))
