"""Attention along the rows and then along the columns, with the same queries and keys."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.attention_base import LEPE, Attention, Modifiers, modifiers, projection_macs
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "axial_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite=(
        "Fan et al. 2024 (RMT), arXiv:2309.11523, eq. 7 (decomposed MaSA); official RMT.py VisionRetentionChunk; "
        "Zhao et al. 2025 (PPMA), arXiv:2506.15940; official PPMA.py MambaAttentionChunkDouble"
    ),
    settings={
        "heads": HEADS,
        **modifiers("decay", own_map=True),
        "lepe": Setting((5, 0, 3), LEPE.rule, LEPE.because, 5),
        "orders": Setting((1, 2), lambda v, place: int(v) in (1, 2), "1 for rows first, 2 for the mean of both orders", 1),
    },
)
class AxialAttention(Attention):
    """A_columns A_rows v: each row mixes its pixels, then each column; with two orders the mean with A_rows A_columns v.

    A pixel so sees the whole map through one that shares its row or column. RMT's MaSA has position="decay" (decay_5 and
    decay_6 where its heads_range is 5 or 6), PPMA's has position="polyline" and orders=2. MACs: 4 N C^2 + 2 N (H + W) C +
    k^2 N C, with two orders N (H + W) C more.
    """

    def __init__(self, width: int, size: int, *, heads: int, orders: int = 1, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, size, heads=heads, usual="decay", usual_lepe=5, **chosen)
        self.orders = orders

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows are tiles, then columns."""
        layouts = lines(x.shape[1], x.shape[2], x) if self.position.places else (None, None)
        q_down, k_down = q.transpose(1, 2), k.transpose(1, 2)
        if self.orders == 1:
            y = self.mix(x, q, k, v, layouts[0])
            return self.mix(x, q_down, k_down, y.transpose(1, 2), layouts[1]).transpose(1, 2)
        across, down = self.weigh(x, q, k, layouts[0]), self.weigh(x, q_down, k_down, layouts[1])
        first = self._down(down, self._across(across, v))
        return (first + self._across(across, self._down(down, v))) / 2

    def _across(self, weights: Tensor, v: Tensor) -> Tensor:
        return join_heads(weights @ split_heads(v, self.heads))

    def _down(self, weights: Tensor, v: Tensor) -> Tensor:
        return self._across(weights, v.transpose(1, 2)).transpose(1, 2)


def lines(height: int, width: int, like: Tensor) -> tuple[Layout, Layout]:
    """The layouts of all rows and of all columns."""
    place = torch.arange(height * width, device=like.device).view(height, width)
    steps = [torch.arange(length, device=like.device) for length in (height, width)]
    down, right = (step - step[:, None] for step in steps)
    upright, none = place.t(), down.new_zeros(1, 1)
    return (
        Layout(torch.zeros_like(right)[None], right[None], place, place, "rows", (none, right)),
        Layout(down[None], torch.zeros_like(down)[None], upright, upright, "columns", (down, none)),
    )


def reference(module: AxialAttention, x: Tensor) -> Tensor:
    """Query by query along its row, over what that gave query by query along its column; and the other way round."""

    def in_row(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(0, z - j, (i, j), (i, z)) for z in range(x.shape[2])]

    def in_column(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(y - i, 0, (i, j), (y, j)) for y in range(x.shape[1])]

    x = attention_naive.prepared(module, x)
    v = naive.linear(module.v, x)
    y = attention_naive.mixed(module, x, x, attention_naive.mixed(module, x, x, v, in_row), in_column)
    if module.orders == 2:
        other = attention_naive.mixed(module, x, x, attention_naive.mixed(module, x, x, v, in_column), in_row)
        y = (y + other) / 2
    return attention_naive.finished(module, x, y if module.lepe is None else y + naive.conv2d(module.lepe, v))


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 4 N size C + k^2 N C for the plain form."""
    module, pixels = AxialAttention(width, size, **settings), size * size
    mixing = 2 * pixels * size * (module.q.out_features + module.orders * width)
    local = 0 if module.lepe is None else pixels * width * module.lepe.kernel_size[0] ** 2
    position = 2 * module.position.macs(size, size, 1, size, pixels)
    return projection_macs(module, pixels, pixels) + mixing + local + position
