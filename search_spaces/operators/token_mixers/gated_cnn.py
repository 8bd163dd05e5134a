"""Gated convolutional layer: a depth-wise convolution on part of the channels between two linear layers, and a gate."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register


@register(
    "gated_cnn",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite=(
        "Yu and Wang 2024 (MambaOut), arXiv:2405.07992, section 3.3; Dauphin et al. 2017, arXiv:1612.08083; "
        "timm mambaout.py GatedConvBlock"
    ),
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "sixths": Setting(
            (12, 15, 16, 18),
            rule=lambda v, place: 6 <= int(v) <= 96,
            because="the hidden channels, width * sixths / 6, are 1 to 16 times the channels",
            default=16,
        ),
        "quarters": Setting(
            (2, 4, 5, 6),
            rule=lambda v, place: 1 <= int(v) * place.width // 4 <= int(cast(int, place.chosen["sixths"])) * place.width // 6,
            because="the convolved channels, width * quarters / 4, are at least 1 and not more than the hidden ones",
            default=4,
        ),
        "activation": one_of("gelu", "relu", "silu", "star_relu", "hardswish", default="gelu"),
    },
)
class GatedCNN(nn.Module):
    """out(act(gate(x)) * v), where v = feed(x) with its first F = quarters C / 4 channels convolved depth-wise.

    Hidden channels E = sixths C / 6; timm's expansion_ratio is sixths / 6 and its conv_ratio quarters / 4. The official block
    has no channel mixer beside it, and its convolved channels are the last ones of one projection; here they are the first of
    `feed`, so that networks of different width share them. MACs: N (3 C E + F kernel^2).
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        kernel: int,
        sixths: int = 16,
        quarters: int = 4,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        hidden, self.convolved = sixths * width // 6, quarters * width // 4
        self.gate, self.feed = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.conv = nn.Conv2d(self.convolved, self.convolved, kernel, padding=kernel // 2, groups=self.convolved)
        self.act = ACTIVATIONS[activation]()
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        value = self.feed(x)
        mixed = self.conv(value[..., : self.convolved].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y: Tensor = self.out(self.act(self.gate(x)) * torch.cat((mixed, value[..., self.convolved :]), dim=-1))
        return y


def macs(width: int, size: int, *, kernel: int, sixths: int = 16, quarters: int = 4, activation: str = "gelu") -> int:
    """Multiply-adds on a size x size map."""
    return size**2 * (3 * width * (sixths * width // 6) + kernel**2 * (quarters * width // 4))


def reference(module: GatedCNN, x: Tensor) -> Tensor:
    """The convolution tap by tap, the gate hidden channel by hidden channel."""
    value, gate = naive.linear(module.feed, x), naive_activation(module.act, naive.linear(module.gate, x))
    mixed = naive.conv2d(module.conv, value[..., : module.conv.in_channels])
    gated = [gate[..., c] * (mixed if c < mixed.shape[-1] else value)[..., c] for c in range(value.shape[-1])]
    return naive.linear(module.out, torch.stack(gated, dim=-1))
