"""A learned scale and shift of each channel, in the place of a norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.registry import Kind, register


@register(
    "affine",
    Kind.NORM,
    cite="Touvron et al. 2021 (ResMLP), arXiv:2105.03404, eq. 1; Lu et al. 2022 (DHVT), arXiv:2210.05958, official "
    "vision_transformer.py Affine",
)
class Affine(nn.Module):
    """weight * x + bias, without statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self.weight * x + self.bias


def reference(module: Affine, x: Tensor) -> Tensor:
    """Channel by channel."""
    return torch.stack([x[..., c] * module.weight[c] + module.bias[c] for c in range(x.shape[3])], dim=-1)
