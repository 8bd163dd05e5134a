"""Attention of every position to a fixed number of pooled ones, at a cost linear in the map."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import (
    ReducedAttention,
    reduced_macs,
    reduced_modifiers,
    reduced_reference,
)
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "pooled_key_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wang et al. 2022 (PVT v2), arXiv:2106.13797, section 3.2 (linear SRA); timm pvt_v2.py Attention with linear_attn",
    settings={
        "heads": HEADS,
        "grid": Setting(
            (2, 4, 7),
            rule=lambda v, place: 1 <= int(v) <= place.size,
            because="the grid of pooled keys is not finer than the map",
        ),
        **reduced_modifiers(),
    },
)
class PooledKeyAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), z = gelu(norm(linear(p))), p the means of x over a grid x grid raster of the map.

    Cells of a map that the grid does not divide overlap by a pixel; on maps smaller than the grid pixels are repeated. MACs
    with M = grid^2: 2 N C^2 + 3 M C^2 + 2 N M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, grid: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, grid, heads=heads, **chosen)
        self.grid = grid
        self.refine = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, grid, grid, C)."""
        pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), self.grid).permute(0, 2, 3, 1)
        return F.gelu(self.norm(self.refine(pooled)))


def pooled_reference(x: Tensor, rows: int, columns: int) -> Tensor:
    """Means over a raster of cells, cell by cell: (B, H, W, C) -> (B, rows, columns, C)."""
    _, height, width, _ = x.shape
    cells = [
        x[
            :,
            i * height // rows : -(-(i + 1) * height // rows),
            j * width // columns : -(-(j + 1) * width // columns),
        ].mean((1, 2))
        for i in range(rows)
        for j in range(columns)
    ]
    return torch.stack(cells, dim=1).unflatten(1, (rows, columns))


def reference(module: PooledKeyAttention, x: Tensor) -> Tensor:
    """Query by query, over the pooled positions."""
    x = attention_naive.prepared(module, x)
    pooled = pooled_reference(x, module.grid, module.grid)
    z = naive.gelu(naive.layer_norm(module.norm, naive.linear(module.refine, pooled)))
    return reduced_reference(module, x, z)


def macs(width: int, size: int, **settings: Any) -> int:
    """The attention, and the linear layer of the pooled keys."""
    module = PooledKeyAttention(width, size, **settings)
    return reduced_macs(module, size**2, module.grid**2) + (module.grid * width) ** 2
