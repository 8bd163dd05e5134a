"""A bias computed from the relative offset by a small network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators.positions.base import Layout, Pair, Position
from nas.search_spaces.operators.positions.table import look_up

HIDDEN_UNITS = 512


class LogCpbPosition(Position):
    """bias[h, i, j] = 16 sigmoid(MLP(c_i - c_j))_h, the offsets on a logarithmic scale.

    Liu et al. 2022 (Swin V2), arXiv:2111.09883, section 3.3; official swin_transformer_v2.py WindowAttention: an offset d
    becomes sign(d') log2(1 + |d'|) / 3 with d' = 8 d / (reach - 1); the factor 16 sigmoid is in the code only. The offset is
    that of the query from the key. Offsets beyond the reach count as the outermost. The network runs once for each offset,
    not for each pair.
    """

    places = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.hidden = nn.Linear(2, HIDDEN_UNITS)
        self.score = nn.Linear(HIDDEN_UNITS, heads, bias=False)
        steps = torch.arange(reach - 1, -reach, -1) * (8 / max(reach - 1, 1))
        spaced = steps.sign() * (steps.abs() + 1).log2() / 3
        grid = torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), dim=-1)
        self.register_buffer("offsets", grid.to(torch.get_default_dtype()), persistent=False)

    offsets: Tensor

    def bias(self, layout: Layout, x: Tensor) -> Tensor:
        """(P or 1, heads, N, M)."""
        table = 16 * self.score(F.relu(self.hidden(self.offsets))).sigmoid()
        return look_up(table, layout)

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """The network on each offset."""
        return parts * (2 * self.reach - 1) ** 2 * HIDDEN_UNITS * (2 + self.heads)


def bias_reference(module: LogCpbPosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of each pair: (M,)."""
    far, biases = module.reach - 1, []
    for pair in pairs:
        share = [8 * min(max(offset, -far), far) / max(far, 1) for offset in (-pair.rows, -pair.columns)]
        place = torch.tensor([math.copysign(math.log(abs(s) + 1, 8), s) for s in share], dtype=read.dtype)
        hidden = ((module.hidden.weight * place).sum(-1) + module.hidden.bias).clamp(min=0)
        biases.append(16 / (1 + torch.exp(-(module.score.weight[head] * hidden).sum())))
    return torch.stack(biases)
