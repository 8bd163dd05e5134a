"""Attention inside the windows of a map, and what such patterns have in common."""

from __future__ import annotations

from torch import Tensor

from nas.search_spaces.operators.attention_base import Attention
from nas.search_spaces.operators.positions.base import Position
from nas.search_spaces.operators.windows import Windows, cut, uncut


class WindowedAttention(Attention):
    """A pattern whose tiles are what `windows` cuts; a subclass sets it."""

    windows: Windows

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C).

        Where nothing but the mixing asks where a token lies and there is no padding, x is cut in place of q, k and v, and the
        projected result put together: two copies of the map, not four.
        """
        height, width = x.shape[1:3]
        plan = self.windows.plan(height, width)
        placed = type(self.position).turns is not Position.turns or self.lepe is not None or self.gate is not None
        if placed or plan.places.numel() != height * width:
            return super().forward(x)
        x = self.position.before(x)
        tiles = cut(x, plan)
        q, k, v = self.projected(tiles, tiles)
        layout = self.windows.layout(plan) if self.position.places else None
        return uncut(self.out(self.mix(x, q, k, v, layout, plan.seen)), plan, height, width)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each window is a tile."""
        plan = self.windows.plan(x.shape[1], x.shape[2])
        layout = self.windows.layout(plan) if self.position.places else None
        tiles = self.mix(x, cut(q, plan), cut(k, plan), cut(v, plan), layout, plan.seen)
        return uncut(tiles, plan, x.shape[1], x.shape[2])
