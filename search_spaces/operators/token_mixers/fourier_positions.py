"""Positions from sines and cosines, brought to the channels by a linear map and added to the map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, register

WAVES, TEMPERATURE, TINY = 32, 10000.0, 1e-6
"""Waves of each axis, the ratio of their lengths, and what keeps the scale finite, as in the official code."""


@register(
    "fourier_positions",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite="El-Nouby et al. 2021 (XCiT), arXiv:2106.09681, section 4; timm xcit.py PositionalEncodingFourier",
)
class FourierPositions(nn.Module):
    """x[i, j] + R f((i + 1) / H) + K f((j + 1) / W) + b, f 16 sines and 16 cosines of waves of 1 to 10000 rounds.

    The block at the start of a stage, with residual and norm `none`. The official 1x1 convolution of 64 channels is [R K],
    split here so that rows and columns are computed once each. Parameters 65 C, MACs 32 (H + W) C.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.rows, self.columns = nn.Linear(WAVES, width), nn.Linear(WAVES, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        rows, columns = self.rows(waves(x.shape[1], x)), self.columns(waves(x.shape[2], x))
        return x + rows[:, None] + columns


def waves(length: int, like: Tensor) -> Tensor:
    """The waves at each of `length` positions, sine and cosine in turn: (length, 32)."""
    place = torch.arange(1, length + 1, device=like.device).to(like.dtype) * (2 * math.pi / (length + TINY))
    slow = TEMPERATURE ** (torch.arange(0, WAVES, 2, device=like.device).to(like.dtype) / WAVES)
    angle = place[:, None] / slow
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


def macs(width: int, size: int) -> int:
    """Multiply-adds for one image."""
    return 2 * size * WAVES * width


def reference(module: FourierPositions, x: Tensor) -> Tensor:
    """Position by position, wave by wave."""
    lines = []
    for layer, length in ((module.rows, x.shape[1]), (module.columns, x.shape[2])):
        places = []
        for n in range(length):
            turn = 2 * math.pi * (n + 1) / (length + TINY)
            angles = [turn / TEMPERATURE ** (wave // 2 * 2 / WAVES) for wave in range(WAVES)]
            both = [math.cos(angle) if wave % 2 else math.sin(angle) for wave, angle in enumerate(angles)]
            places.append(naive.linear(layer, torch.tensor(both, dtype=x.dtype, device=x.device)))
        lines.append(torch.stack(places))
    return x + lines[0][:, None] + lines[1][None]
