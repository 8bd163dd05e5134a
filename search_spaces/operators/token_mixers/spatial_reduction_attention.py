"""Attention of every position to a coarser copy of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "spatial_reduction_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wang et al. 2021 (PVT), arXiv:2102.12122, eq. 1-4; official pvt.py Attention",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2 (1 is global_attention), and smaller than the map, which leaves several keys",
        ),
    },
)
class SpatialReductionAttention(nn.Module):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), with z the layer norm of a reduction x reduction convolution of x at that stride.

    The paper reshapes and multiplies by a matrix; the code, followed here, writes the same map as a strided convolution. Maps
    that are no multiple of the reduction are padded with zeros at the bottom and right (the official code drops the rest).
    With N = H W and M = N / reduction^2: parameters 4 (C^2 + C) + reduction^2 C^2 + 3 C, MACs 3 N C^2 + 2 M C^2 + 2 N M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.reduce = nn.Conv2d(width, width, reduction, reduction)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        down, right = -x.shape[1] % self.reduction, -x.shape[2] % self.reduction
        padded = F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x
        coarse = self.norm(self.reduce(padded.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2))
        q = split_heads(self.q(x.flatten(1, 2)), self.heads)
        k, v = split_heads(self.k(coarse), self.heads), split_heads(self.v(coarse), self.heads)
        mixed: Tensor = self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return mixed.view(x.shape)


def reference(module: SpatialReductionAttention, x: Tensor) -> Tensor:
    """Query by query, over the coarse positions."""
    batch, height, width, channels = x.shape
    r, heads = module.reduction, (module.heads, channels // module.heads)
    padded = x.new_zeros(batch, -(-height // r) * r, -(-width // r) * r, channels)
    padded[:, :height, :width] = x
    coarse = naive.layer_norm(module.norm, naive.conv2d(module.reduce, padded)).flatten(1, 2)
    k, v = ([naive.linear(f, z).view(-1, *heads) for z in coarse.unbind(1)] for f in (module.k, module.v))
    queries = [naive.linear(module.q, token).view(-1, *heads) for token in x.flatten(1, 2).unbind(1)]
    mixed = [naive.linear(module.out, naive.attend(query, k, v).flatten(1)) for query in queries]
    return torch.stack(mixed, dim=1).view(x.shape)
