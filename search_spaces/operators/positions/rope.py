"""Queries and keys turned by angles that grow with their row and column."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.search_spaces.operators.positions.base import Position

BASE = 100.0


class RopePosition(Position):
    """The axial rotary embedding: half of the channel pairs turn with the column, half with the row, at falling speeds.

    Heo et al. 2024 (RoPE-ViT), arXiv:2403.13298, section 3.2 (axial frequency); timm eva.py EvaAttention with
    pos_embed_sincos.py RotaryEmbeddingCat as in its vit_*_rope_224: pair p of the first half turns by column * 100^(-4 p / d),
    pair p of the second half by row times the same. Channels 2 p and 2 p + 1 of a head are a pair; where d is no multiple of
    4, the columns get the pair more, and a last odd channel stays as it is. Scores depend on offsets only; all map sizes
    share the speeds.
    """

    def turns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (H, W, pairs)."""
        depth = self.narrow // self.heads
        height, width, pairs = x.shape[1], x.shape[2], depth // 2
        along = speeds(depth, pairs - pairs // 2, x)
        columns = torch.arange(width, device=x.device, dtype=x.dtype)[:, None] * along
        rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] * along[: pairs // 2]
        angles = [columns[None].expand(height, -1, -1), rows[:, None].expand(-1, width, -1)]
        every = torch.cat(angles, dim=-1)
        return every.cos(), every.sin()


def speeds(depth: int, count: int, like: Tensor) -> Tensor:
    """Radians per step of the first `count` pairs of an axis."""
    return torch.exp(torch.arange(count, device=like.device, dtype=like.dtype) * (-4 / depth * math.log(BASE)))


def rotate(x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """Each pair of neighbouring channels of each head turned: (B, H, W, C), twice (H, W, pairs) -> (B, H, W, C).

    In eager mode by one complex product, for every second channel is slow to read and to write. Exported formats know no
    complex numbers, nor do halved precisions, and compilers fuse the real form.
    """
    depth = x.shape[3] // heads
    real = torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.float64)
    if real or depth % 2:
        return _rotated(x, cos, sin, heads)
    pairs = torch.view_as_complex(x.contiguous().view(*x.shape[:3], heads, depth // 2, 2))
    return torch.view_as_real(pairs * torch.complex(cos, sin)[:, :, None]).flatten(3)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """As `rotate`, in real numbers."""
    by_head = x.unflatten(3, (heads, x.shape[3] // heads))
    turned = 2 * cos.shape[2]
    even, odd = by_head[..., :turned].unflatten(4, (-1, 2)).unbind(5) if turned else (by_head[..., :0],) * 2
    cos, sin = cos[:, :, None], sin[:, :, None]
    pairs = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=5).flatten(4)
    return (pairs if turned == by_head.shape[4] else torch.cat((pairs, by_head[..., turned:]), dim=4)).flatten(3)


def turn_reference(module: RopePosition, x: Tensor) -> Tensor:
    """Pair by pair: (B, H, W, heads, d) -> (B, H, W, heads, d)."""
    depth, pairs = x.shape[4], x.shape[4] // 2
    first = pairs - pairs // 2
    out = x.clone()
    for pair in range(pairs):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                steps, number = (j, pair) if pair < first else (i, pair - first)
                angle = steps * 100.0 ** (-4 * number / depth)
                a, b = x[:, i, j, :, 2 * pair], x[:, i, j, :, 2 * pair + 1]
                out[:, i, j, :, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
                out[:, i, j, :, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out
