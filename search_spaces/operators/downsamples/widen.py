"""More channels behind those that there are: a projection of the map that a grouped convolution refines."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.token_mixers import grouped_conv
from nas.search_spaces.registry import Kind, one_of, register

HEAD_WIDTH = 32


@register(
    "widen",
    Kind.DOWNSAMPLE,
    cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, section 3.3 (NTB); official nextvit.py NTB, timm NextTransformerBlock",
    settings={"activation": one_of("relu", "gelu", "silu", "hardswish", default="relu")},
    out_map=lambda height, width, settings: (height, width),
)
class Widen(nn.Module):
    """[x, p + mix(p)], p a projection of x to the channels that are missing, with batch norm and without bias.

    mix is `grouped_conv` with heads of 32 channels, or of what divides both 32 and the missing channels. It is the second half
    of Next-ViT's transformer block, whose attention works on the first channels alone. Where the width leaves no room behind
    x, p has all channels and x is left out. The map stays.
    """

    def __init__(self, in_width: int, width: int, *, activation: str = "relu") -> None:
        super().__init__()
        self.keeps = in_width < width
        missing = width - in_width if self.keeps else width
        self.linear = nn.Linear(in_width, missing, bias=False)
        self.norm = nn.BatchNorm2d(missing)
        self.mix = grouped_conv.GroupedConv(missing, 1, head_width=math.gcd(missing, HEAD_WIDTH), act=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H, W, width)."""
        p: Tensor = self.norm(self.linear(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        p = p + self.mix(p)
        return torch.cat((x, p), dim=-1) if self.keeps else p


def reference(module: Widen, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    p = naive.batch_norm(module.norm, naive.linear(module.linear, x))
    p = p + grouped_conv.reference(module.mix, p)
    return torch.cat((x, p), dim=-1) if module.keeps else p
