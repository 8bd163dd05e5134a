"""Downsampling by attention among means of patches, beside a shortcut of means."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, attend_in_tiles
from nas.search_spaces.operators.downsamples.residual_mbconv import halved, naive_halved
from nas.search_spaces.operators.positions.table import TablePosition
from nas.search_spaces.operators.token_mixers.global_attention import everywhere
from nas.search_spaces.registry import Kind, register


@register(
    "residual_attention",
    Kind.DOWNSAMPLE,
    cite="Dai et al. 2021 (CoAtNet), arXiv:2106.04803, appendix A.1; timm maxxvit.py TransformerBlock2d with stride 2",
    settings={"heads": HEADS},
    sized=True,
)
class ResidualAttention(nn.Module):
    """P(pool(x)) + out(softmax(q k^T / sqrt(d) + B) v), q, k, v made of pool(norm(x)) and as wide as the new map.

    pool is the mean of 2x2 patches, at the edge of an odd map of the pixels there are; norm a layer norm; B a table by relative
    position on the smaller map; P is left out where the width stays.
    """

    def __init__(self, in_width: int, width: int, size: int, *, heads: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(in_width, width, 1) if in_width != width else None
        self.norm = nn.LayerNorm(in_width, eps=1e-6)
        self.q, self.k, self.v = (nn.Linear(in_width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.position = TablePosition(width, heads, -(-size // 2), width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        means = halved(self.norm(x).permute(0, 3, 1, 2), None).permute(0, 2, 3, 1)
        bias = self.position.bias(everywhere(means.shape[1], means.shape[2], x), means)
        q, k, v = (layer(means).flatten(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        mixed = self.out(attend_in_tiles(q, k, v, bias)).view(*means.shape[:3], -1)
        return mixed + halved(x.permute(0, 3, 1, 2), self.shortcut).permute(0, 2, 3, 1)


def reference(module: ResidualAttention, x: Tensor) -> Tensor:
    """Query by query, key by key."""
    means, table, heads = naive_halved(naive.layer_norm(module.norm, x), None), module.position.table, module.position.heads
    q, k, v = (naive.linear(layer, means).unflatten(-1, (heads, -1)) for layer in (module.q, module.k, module.v))
    places, far = [(i, j) for i in range(q.shape[1]) for j in range(q.shape[2])], module.position.reach - 1
    rows = []
    for i in range(q.shape[1]):
        tokens = []
        for j in range(q.shape[2]):
            offsets = [[min(max(n - m, -far), far) + far for n, m in ((y, i), (z, j))] for y, z in places]
            bias = [table[row, column] for row, column in offsets]
            keys, values = ([part[:, y, z] for y, z in places] for part in (k, v))
            tokens.append(naive.attend(q[:, i, j], keys, values, bias).flatten(1))
        rows.append(naive.linear(module.out, torch.stack(tokens, dim=1)))
    return torch.stack(rows, dim=1) + naive_halved(x, module.shortcut)
