"""Attention among the pixels of a coarser map, whose result is repeated for the pixels of the finer one."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, modifiers
from nas.search_spaces.operators.attention_reduced import OUT, between, cell_means, reduced_macs
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "pooled_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Si et al. 2022 (Inception Transformer), arXiv:2205.12956, eq. 8; official inception_transformer.py LowMixer",
    settings={
        "heads": HEADS,
        "pool": Setting(
            (4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a pool is at least 2 (1 is global_attention), and smaller than the map, which leaves several cells",
        ),
        **modifiers("none", own_map=True),
        "out": OUT,
    },
)
class PooledAttention(Attention):
    """Global attention of the means over pool x pool pixels, each result repeated for all pixels of its cell.

    Cells at the edge of a map that the pool does not divide have fewer pixels. The official module ends with the mixed values
    (`out` none), which are projected together with those of convolutions on the other channels. With M = N / pool^2: MACs
    4 M C^2 + 2 M^2 C.
    """

    def __init__(self, width: int, size: int, *, heads: int, pool: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, -(-size // pool), heads=heads, **chosen)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mixed = super().forward(cell_means(x, self.pool)).permute(0, 3, 1, 2)
        repeated = F.interpolate(mixed, scale_factor=float(self.pool), mode="nearest").permute(0, 2, 3, 1)
        return repeated[:, : x.shape[1], : x.shape[2]]

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All cells are one tile."""
        layout = between(x.shape[1:3], x.shape[1:3], x) if self.position.places else None
        q, k, v = (part.flatten(1, 2)[:, None] for part in (q, k, v))
        return self.mix(x, q, k, v, layout).view(x.shape)


def reference(module: PooledAttention, x: Tensor) -> Tensor:
    """Cell by cell, over all cells."""
    p, (height, width) = module.pool, x.shape[1:3]
    rows = [
        torch.stack([x[:, i : i + p, j : j + p].mean((1, 2)) for j in range(0, width, p)], dim=1) for i in range(0, height, p)
    ]
    pooled = torch.stack(rows, dim=1)

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(y - i, z - j, (i, j), (y, z)) for y in range(pooled.shape[1]) for z in range(pooled.shape[2])]

    mixed = attention_naive.attend(module, pooled, sees)
    return torch.stack([torch.stack([mixed[:, i // p, j // p] for j in range(width)], dim=1) for i in range(height)], dim=1)


def macs(width: int, size: int, **settings: Any) -> int:
    """That of global attention on the pooled map."""
    module = PooledAttention(width, size, **settings)
    cells = (-(-size // module.pool)) ** 2
    return reduced_macs(module, cells, cells)
