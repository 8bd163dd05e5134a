"""A bias that each query makes for the rows and the columns around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.attention import split_heads
from nas.search_spaces.operators.positions.base import Layout, Pair, Position


class RelativeQueryPosition(Position):
    """bias[h, i, j] = q_ih . rows[row_j - row_i] + q_ih . columns[column_j - column_i], the vectors shared by the heads.

    Ramachandran et al. 2019 (SASA), arXiv:1906.05909, eq. 3; Vaswani et al. 2021 (HaloNet), arXiv:2103.12731; timm
    halo_attn.py PosEmbedRel. It is not scaled by 1 / sqrt(d). Offsets beyond the reach share the outermost vectors.
    """

    places = True
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"rows": (0,), "columns": (0,)}

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        depth = narrow // heads
        self.rows = nn.Parameter(torch.randn(2 * reach - 1, depth) * depth**-0.5)
        self.columns = nn.Parameter(torch.randn(2 * reach - 1, depth) * depth**-0.5)

    def query_bias(self, layout: Layout, q: Tensor, part: slice) -> Tensor:
        """(B, P, h, N, M)."""
        far, queries = self.reach - 1, split_heads(q, part.stop - part.start)
        found = []
        for vectors, offsets in ((self.rows, layout.rows), (self.columns, layout.columns)):
            scores = queries @ vectors.t()
            index = offsets.clamp(-far, far)[:, None] + far
            found.append(scores.gather(-1, index.expand(*scores.shape[:-1], -1)))
        return found[0] + found[1]

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """Each query with all vectors."""
        return tiles * queries * self.narrow * 2 * (2 * self.reach - 1)


def query_bias_reference(module: RelativeQueryPosition, pairs: Sequence[Pair], query: Tensor) -> Tensor:
    """The bias of each pair of one query (B, d): (B, M)."""
    far = module.reach - 1
    rows = torch.stack([module.rows[min(max(pair.rows, -far), far) + far] for pair in pairs])
    columns = torch.stack([module.columns[min(max(pair.columns, -far), far) + far] for pair in pairs])
    return (query[:, None] * rows).sum(-1) + (query[:, None] * columns).sum(-1)
