"""Residual spatial reduction of a row of tokens behind a class token."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.downsamples import residual_reduction
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, register


def grid(tokens: int) -> tuple[int, int]:
    """Rows and columns of the map that a row with a class token in front stands for, the squarest that holds them."""
    rows = max(math.isqrt(tokens - 1), 1)
    return rows, max(-(-(tokens - 1) // rows), 1)


def _after(tokens: int) -> tuple[int, int]:
    rows, columns = grid(tokens)
    return 1, -(-rows // 2) * -(-columns // 2) + 1


@register(
    "token_row_reduction",
    Kind.DOWNSAMPLE,
    cite="Liao et al. 2021 (ViT-ResNAS), arXiv:2109.00642, section 3.1; official vit_sr_supernet.py "
    "SpatialReductionPatchEmbedding",
    out_map=lambda height, width, settings: _after(height * width),
    sized=True,
)
class TokenRowReduction(nn.Module):
    """[linear(norm(t)) + t, conv(norm(x)) + positions + pool(x)], t the class token, x the other tokens as a map.

    The second part is `residual_reduction`, whose norm the token goes through too; t and pool(x) are filled up with zero
    channels, or cut to the new width. Tokens that make no rectangle are filled up with zeros at the end. Positions are a table,
    resized bilinearly for maps of another size.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, in_width: int, width: int, size: int) -> None:
        super().__init__()
        self.reduction = residual_reduction.ResidualReduction(in_width, width)
        self.linear = nn.Linear(in_width, width)
        rows, columns = grid(size)
        self.table = nn.Parameter(torch.randn(-(-rows // 2), -(-columns // 2), width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N + 1, in_width) -> (B, 1, N / 4 + 1, width), odd sizes of the map rounded up."""
        tokens = x.flatten(1, 2)
        token, rest = tokens[:, :1], tokens[:, 1:]
        rows, columns = grid(tokens.shape[1])
        maps = self.reduction(F.pad(rest, (0, 0, 0, rows * columns - rest.shape[1])).unflatten(1, (rows, columns)))
        maps = maps + fitted(self.table, maps.shape[1], maps.shape[2])
        first = self.linear(self.reduction.norm(token))
        first = first + F.pad(token, (0, first.shape[2] - token.shape[2]))
        return torch.cat((first, maps.flatten(1, 2)), dim=1)[:, None]


def reference(module: TokenRowReduction, x: Tensor) -> Tensor:
    """Token by token."""
    tokens = x.flatten(1, 2)
    rows, columns = grid(tokens.shape[1])
    maps = x.new_zeros(x.shape[0], rows, columns, x.shape[3])
    for n in range(1, tokens.shape[1]):
        maps[:, (n - 1) // columns, (n - 1) % columns] = tokens[:, n]
    out = residual_reduction.reference(module.reduction, maps)
    down, right = (stretch(have, want).to(x) for have, want in zip(module.table.shape[:2], out.shape[1:3], strict=True))
    out = out + torch.einsum("ih,jw,hwc->ijc", down, right, module.table)
    first = naive.linear(module.linear, parts.naive_norm(module.reduction.norm, tokens[:, 0])).clone()
    kept = min(x.shape[3], first.shape[1])
    first[:, :kept] += tokens[:, 0, :kept]
    return torch.cat((first[:, None], out.flatten(1, 2)), dim=1)[:, None]
