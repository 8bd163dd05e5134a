"""Scores that fall with the distance, at a fixed rate for each head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nas.search_spaces.operators.positions.base import Layout, Pair, Position

FIRST = 2.0
BASE = 10000.0


class DecayPosition(Position):
    """bias[h, i, j] = (|row_j - row_i| + |column_j - column_i|) log(1 - 2^(-2 - span h / heads)), on turned queries and keys.

    Fan et al. 2024 (RMT), arXiv:2309.11523, eq. 4-6; official RMT.py RetNetRelPos2d with its initial_value 2 and heads_range
    `span`. The paper multiplies the weights after softmax by gamma^distance; the released code adds distance * log(gamma) to
    the scores before it, which is done here. As there, queries and keys are turned first: pair p of a head's channels by
    n 10000^(-p / (pairs - 1)), n the number of the token in raster order. A last odd channel stays as it is.
    """

    places = True
    span: ClassVar[float] = 4.0

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        rates = (1 - 2 ** (-FIRST - self.span * torch.arange(heads, dtype=torch.float64) / heads)).log()
        self.register_buffer("fade", rates.to(torch.get_default_dtype()), persistent=False)

    fade: Tensor

    def turns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (H, W, pairs)."""
        return turns_in_raster_order(x, self.narrow // self.heads // 2)

    def bias(self, layout: Layout, x: Tensor) -> Tensor:
        """(P or 1, heads, N, M)."""
        if layout.axes is None:
            distance = (layout.rows.abs() + layout.columns.abs()).to(x.dtype)
            return distance[:, None] * self.fade[:, None, None]
        down, right = (axis.abs().to(x.dtype) * self.fade[:, None, None] for axis in layout.axes)
        return (down[:, :, None, :, None] + right[:, None, :, None]).flatten(3).flatten(1, 2)[None]


class DecayPosition5(DecayPosition):
    """The decay of RMT-B's first stages: rates over a range of 5."""

    span = 5.0


class DecayPosition6(DecayPosition):
    """The decay of RMT's last stages: rates over a range of 6."""

    span = 6.0


def turns_in_raster_order(x: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Twice (H, W, pairs). The angles of a row's start and of a column are added by their sines and cosines."""
    height, width = x.shape[1:3]
    along = torch.arange(pairs, device=x.device, dtype=x.dtype) * (-math.log(BASE) / max(pairs - 1, 1))
    columns = torch.arange(width, device=x.device, dtype=x.dtype)[:, None] * along.exp()
    rows = (torch.arange(height, device=x.device, dtype=x.dtype) * width)[:, None, None] * along.exp()
    cos = rows.cos() * columns.cos() - rows.sin() * columns.sin()
    sin = rows.sin() * columns.cos() + rows.cos() * columns.sin()
    return cos, sin


def turn_reference(module: Position, x: Tensor) -> Tensor:
    """Token by token: (B, H, W, heads, d) -> (B, H, W, heads, d)."""
    pairs = x.shape[4] // 2
    out = x.clone()
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for pair in range(pairs):
                angle = (i * x.shape[2] + j) / 10000.0 ** (pair / max(pairs - 1, 1))
                a, b = x[:, i, j, :, 2 * pair], x[:, i, j, :, 2 * pair + 1]
                out[:, i, j, :, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
                out[:, i, j, :, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


def bias_reference(module: DecayPosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of each pair: (M,)."""
    gamma = 1 - 2 ** (-2 - module.span * head / module.heads)
    return torch.tensor([(abs(pair.rows) + abs(pair.columns)) * math.log(gamma) for pair in pairs], dtype=read.dtype)
