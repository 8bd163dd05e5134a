"""A learned bias for each relative offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.positions.base import Layout, Pair, Position


class TablePosition(Position):
    """bias[h, i, j] = table[row_j - row_i, column_j - column_i, h], Liu et al. 2021 (Swin), arXiv:2103.14030, eq. 4.

    The official table is indexed by query minus key: flip both axes to load it. Offsets beyond the reach share the
    outermost entry.
    """

    places = True
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.table = nn.Parameter(torch.empty(2 * reach - 1, 2 * reach - 1, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def bias(self, layout: Layout, x: Tensor) -> Tensor:
        """(P or 1, heads, N, M)."""
        return look_up(self.table, layout)


def look_up(table: Tensor, layout: Layout) -> Tensor:
    """The entries of a table (2 reach - 1, 2 reach - 1, heads) for each pair: (P or 1, heads, N, M)."""
    far = table.shape[0] // 2
    index = (layout.rows.clamp(-far, far) + far) * (2 * far + 1) + layout.columns.clamp(-far, far) + far
    return table.flatten(0, 1).t().index_select(1, index.flatten()).unflatten(1, index.shape).transpose(0, 1)


def bias_reference(module: TablePosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of each pair: (M,)."""
    far = module.reach - 1
    places = [[min(max(offset, -far), far) + far for offset in (pair.rows, pair.columns)] for pair in pairs]
    return torch.stack([module.table[row, column, head] for row, column in places])
