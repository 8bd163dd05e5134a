"""Focal modulation: a query times the gated sum of ever wider depth-wise contexts and the map's mean."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "focal_modulation",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Yang et al. 2022 (FocalNet), arXiv:2203.11926, section 3.2; timm focalnet.py FocalModulation",
    settings={
        "levels": Setting(
            (1, 2, 3, 4), rule=lambda v, place: 1 <= int(v) <= place.size - 1, because="there are 1 to map size - 1 levels"
        ),
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: (
                int(v) % 2 == 1 and int(v) >= 3 and int(v) // 2 + int(place.chosen["levels"]) - 1 < place.size
            ),
            because="a kernel is odd, at least 3, and the widest level's reaches a pixel: kernel // 2 + levels - 1 < map size",
        ),
        "post_norm": flag(False),
        "normalise": flag(False),
        "bias": flag(True),
    },
)
class FocalModulation(nn.Module):
    """out(query(x) * mix(sum_l g_l c_l + g_L gelu(mean of c_L))), c_0 = context(x), c_l = gelu(dw_l(c_{l-1})).

    g = gates(x) holds one number a position and level; dw_l is depth-wise without bias, of size kernel + 2 (l - 1).
    `post_norm` puts a LayerNorm before `out`, `normalise` divides the sum by L + 1, `bias` is that of all linear layers but
    `out`. The official code has one convolution for query, context and gates. N = H W, MACs:
    N (4 C^2 + C (L + 1) + C times the sum of the squared sizes).
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        levels: int,
        kernel: int,
        post_norm: bool = False,
        normalise: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.query, self.context, self.mix = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.gates = nn.Linear(width, levels + 1, bias=bias)
        sizes = [kernel + 2 * level for level in range(levels)]
        self.levels = nn.ModuleList(
            nn.Conv2d(width, width, taps, padding=taps // 2, groups=width, bias=False) for taps in sizes
        )
        self.norm = nn.LayerNorm(width, eps=1e-6) if post_norm else None
        self.out = nn.Linear(width, width)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        gates = self.gates(x).split(1, dim=-1)
        context, total = self.context(x).permute(0, 3, 1, 2), None
        for conv, gate in zip(self.levels, gates[:-1], strict=True):
            context = F.gelu(conv(context))
            part = context.permute(0, 2, 3, 1)
            total = part * gate if total is None else torch.addcmul(total, part, gate)
        assert total is not None, "no levels"
        total = torch.addcmul(total, F.gelu(context.mean((2, 3)))[:, None, None], gates[-1])
        y = self.query(x) * self.mix(total / len(gates) if self.normalise else total)
        z: Tensor = self.out(y if self.norm is None else self.norm(y))
        return z


def macs(
    width: int,
    size: int,
    *,
    levels: int,
    kernel: int,
    post_norm: bool = False,
    normalise: bool = False,
    bias: bool = True,
) -> int:
    """Multiply-adds on a size x size map."""
    taps = sum((kernel + 2 * level) ** 2 for level in range(levels))
    return size**2 * width * (4 * width + levels + 1 + taps)


def reference(module: FocalModulation, x: Tensor) -> Tensor:
    """Level by level."""
    gates, context = naive.linear(module.gates, x), naive.linear(module.context, x)
    parts = []
    for conv in module.levels:
        context = naive.gelu(naive.conv2d(cast(nn.Conv2d, conv), context))
        parts.append(context)
    mean = context.sum((1, 2), keepdim=True) / (x.shape[1] * x.shape[2])
    parts.append(naive.gelu(mean).expand_as(x))
    total = sum((gates[..., level, None] * part for level, part in enumerate(parts)), torch.zeros_like(x))
    share = 1 / len(parts) if module.normalise else 1.0
    y = naive.linear(module.query, x) * naive.linear(module.mix, total * share)
    return naive.linear(module.out, y if module.norm is None else naive.layer_norm(module.norm, y))
