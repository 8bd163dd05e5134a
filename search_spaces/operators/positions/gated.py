"""Attention by content and attention by place, blended by a gate of each head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.positions.base import Layout, Pair, Position

HIDDEN = -1e4


class GatedPosition(Position):
    """weights = (1 - sigmoid(opening_h)) content + sigmoid(opening_h) softmax_j(place(dx, dy, dx^2 + dy^2)_h).

    d'Ascoli et al. 2021 (ConViT), arXiv:2103.10697, eq. 7-8; official convit.py GPSA, with its local initialisation: the
    heads look at the cells of a sqrt(heads) x sqrt(heads) kernel. dx and dy are those of the key from the query.
    """

    places = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.place = nn.Linear(3, heads)
        self.opening = nn.Parameter(torch.ones(heads))
        side = math.isqrt(heads)
        steps = 2 * (torch.arange(side * side) // side - (side - 1) / 2)
        local = torch.stack((steps, steps.view(side, side).t().flatten(), torch.full_like(steps, -1.0)), dim=1)
        with torch.no_grad():
            self.place.weight[: side * side] = local.to(self.place.weight)

    def blend(self, weights: Tensor, layout: Layout, part: slice, seen: Tensor | None) -> Tensor:
        """(B, P, h, N, M) -> (B, P, h, N, M)."""
        shape, (rows, columns) = layout.rows.shape, (each.to(weights.dtype).flatten() for each in (layout.rows, layout.columns))
        near = torch.stack((columns, rows, rows**2 + columns**2))
        scores = torch.addmm(self.place.bias[:, None], self.place.weight, near).unflatten(1, shape).transpose(0, 1)[:, part]
        if seen is not None:
            scores = torch.where(seen[..., None, :, :], scores, HIDDEN)
        return torch.lerp(weights, scores.softmax(-1), self.opening[part].sigmoid()[:, None, None])

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """3 MACs for each head and pair."""
        return parts * 3 * self.heads * queries * keys * layouts


def blend_reference(module: GatedPosition, weights: Tensor, pairs: Sequence[Pair], head: int) -> Tensor:
    """The weights of one query and head: (B, M) -> (B, M)."""
    near = [[p.columns, p.rows, p.columns**2 + p.rows**2] for p in pairs]
    scores = naive.linear(module.place, torch.tensor(near, dtype=weights.dtype))[:, head]
    place = torch.exp(scores - scores.amax())
    gate = 1 / (1 + torch.exp(-module.opening[head]))
    return (1 - gate) * weights + gate * place / place.sum()
