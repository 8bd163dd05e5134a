"""Scale-aware modulation: values times a map that convolutions of several kernel sizes made and a bottleneck mixed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

_FAST = 6
"""Heads up to the one with a kernel of 13 x 13. Heads come with other channels between theirs: on such maps oneDNN takes five
times as long and more for larger kernels."""


@register(
    "scale_aware_modulation",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Lin et al. 2023 (SMT), arXiv:2307.08579, section 3.1; official models/smt.py Attention with ca_attention=1",
    settings={
        "heads": Setting(
            (2, 4),
            rule=lambda v, place: 1 <= int(v) < place.size and place.width % int(v) == 0,
            because="heads divide the channels, and the last kernel, 2 heads + 1, reaches a pixel: heads < map size",
        ),
        "expansion": Setting((1, 2), rule=lambda v, place: 1 <= int(v) <= 16, because="an expansion is between 1 and 16"),
        "bias": flag(True),
    },
)
class ScaleAwareModulation(nn.Module):
    """out(value(x) * merge(gelu(norm(mix(s))))), where head i of s = spread(x) is convolved depth-wise, 2 i + 3 x 2 i + 3.

    Channel c of `spread` belongs to head c mod heads, and `mix` is a grouped 1x1 convolution from each `heads` neighbouring
    channels, one of each head, to `expansion` times as many. The official `s` has the heads one after the other and interleaves
    them after the convolutions; with this order networks of different width share the leading channels. `bias` is that of
    `value` and `spread`. With e the expansion and n the heads, MACs: N ((3 + e) C^2 + n e C + C mean(kernel^2)).
    """

    def __init__(self, width: int, size: int, *, heads: int, expansion: int, bias: bool = True) -> None:
        super().__init__()
        head, hidden = width // heads, expansion * width
        self.value, self.spread = nn.Linear(width, width, bias=bias), nn.Linear(width, width, bias=bias)
        self.local = nn.ModuleList(nn.Conv2d(head, head, 2 * i + 3, padding=i + 1, groups=head) for i in range(heads))
        self.mix = nn.Conv2d(width, hidden, 1, groups=head)
        self.norm = nn.BatchNorm2d(hidden)
        self.merge, self.out = nn.Linear(hidden, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        heads = self.spread(x).permute(0, 3, 1, 2).unflatten(1, (-1, len(self.local))).unbind(2)
        heads = (*heads[:_FAST], *(self._laid_out(head) for head in heads[_FAST:]))
        local = torch.stack([conv(head) for conv, head in zip(self.local, heads, strict=True)], dim=2).flatten(1, 2)
        mixed = self.mix(local)
        if self.training:  # the gradient comes with channels last, and mixed layouts make that of the norm slow
            mixed = mixed.contiguous(memory_format=torch.channels_last)
        hidden = F.gelu(self.norm(mixed))
        y: Tensor = self.out(self.merge(hidden.permute(0, 2, 3, 1)) * self.value(x))
        return y

    def _laid_out(self, head: Tensor) -> Tensor:
        """A head in a layout for which oneDNN has a fast kernel; training takes longer by it, backwards."""
        if self.training or head.device.type != "cpu" or torch.compiler.is_exporting():
            return head
        return head.contiguous(memory_format=torch.channels_last)


def macs(width: int, size: int, *, heads: int, expansion: int, bias: bool = True) -> int:
    """Multiply-adds on a size x size map."""
    taps = sum((2 * head + 3) ** 2 for head in range(heads)) * (width // heads)
    return size**2 * ((3 + expansion) * width**2 + heads * expansion * width + taps)


def reference(module: ScaleAwareModulation, x: Tensor) -> Tensor:
    """Head by head."""
    spread, heads = naive.linear(module.spread, x), len(module.local)
    local = torch.zeros_like(spread)
    for head, conv in enumerate(module.local):
        local[..., head::heads] = naive.conv2d(cast(nn.Conv2d, conv), spread[..., head::heads])
    hidden = naive.gelu(naive.batch_norm(module.norm, naive.conv2d(module.mix, local)))
    modulator = naive.linear(module.merge, hidden)
    return naive.linear(module.out, modulator * naive.linear(module.value, x))
