"""A learned bias for each distance along the rows and along the columns, whatever the direction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.positions.base import Layout, Pair, Position


class SymmetricTablePosition(Position):
    """bias[h, i, j] = distances[|row_j - row_i|, |column_j - column_i|, h].

    Graham et al. 2021 (LeViT), arXiv:2104.01136, section 4.2, eq. 1; Wu et al. 2022 (TinyViT), arXiv:2207.10666, official
    tiny_vit.py Attention: its `attention_biases` (heads, reach^2) transposed and reshaped. Distances beyond the reach share
    the last entry.
    """

    places = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.distances = nn.Parameter(torch.empty(reach, reach, heads))
        nn.init.trunc_normal_(self.distances, std=0.02)

    def bias(self, layout: Layout, x: Tensor) -> Tensor:
        """(P or 1, heads, N, M)."""
        far = self.reach - 1
        index = layout.rows.abs().clamp(max=far) * self.reach + layout.columns.abs().clamp(max=far)
        return self.distances.flatten(0, 1).t().index_select(1, index.flatten()).unflatten(1, index.shape).transpose(0, 1)


def bias_reference(module: SymmetricTablePosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of each pair: (M,)."""
    far = module.reach - 1
    return torch.stack([module.distances[min(abs(pair.rows), far), min(abs(pair.columns), far), head] for pair in pairs])
