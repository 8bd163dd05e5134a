"""Efficient channel attention: each channel is scaled by what its neighbours in the order of channels say of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.registry import Kind, Setting, register


@register(
    "efficient_channel_attention",
    Kind.CHANNEL_MIXER,
    cite="Wang et al. 2020 (ECA-Net), arXiv:1910.03151, eq. 6-9; timm eca.py EcaModule",
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.width,
            because="a kernel is odd, at least 3, and its outermost taps reach a channel: kernel // 2 < width",
        )
    },
)
class EfficientChannelAttention(nn.Module):
    """x * sigmoid(conv(mean of x)), the convolution of `kernel` taps along the channels, zeros beyond the first and last.

    The paper takes the odd number nearest to (log2 C + 1) / 2 as kernel. Parameters kernel, MACs kernel C, whatever the map.
    """

    def __init__(self, width: int, size: int, *, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, (1, kernel), padding=(0, kernel // 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = x.mean((1, 2))
        gate: Tensor = self.conv(mean[:, None, None]).sigmoid().view(x.shape[0], 1, 1, -1)
        return x * gate


def reference(module: EfficientChannelAttention, x: Tensor) -> Tensor:
    """Channel by channel, tap by tap."""
    taps = module.conv.weight.flatten()
    mean = x.sum((1, 2)) / (x.shape[1] * x.shape[2])
    scaled = []
    for c in range(x.shape[3]):
        near = [(t, c + t - len(taps) // 2) for t in range(len(taps))]
        logit = sum((taps[t] * mean[:, n] for t, n in near if 0 <= n < x.shape[3]), x.new_zeros(()))
        scaled.append(x[..., c] / (1 + (-logit).exp())[:, None, None])
    return torch.stack(scaled, dim=-1)


def macs(width: int, size: int, *, kernel: int) -> int:
    """Multiply-adds on any map: kernel C."""
    return kernel * width
