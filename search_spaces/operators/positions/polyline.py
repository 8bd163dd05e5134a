"""Scores that fall along an L-shaped path between query and key, at rates that the tokens on it decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.positions import decay
from nas.search_spaces.operators.positions.base import Layout, Pair, Position
from nas.search_spaces.operators.positions.decay import turn_in_raster_order


class PolylinePosition(Position):
    """bias[h, i, j] = minus the steps on the way from i along its row to the column of j, then along that column to j.

    Each token and head has a step to the right, softplus(steps(x_h)_0 + shift_h) exp(rate_h), and one downwards likewise; a
    way from a to b > a along an axis is the sum of the steps of a + 1 .. b. The other path goes along the column of i first;
    the weights are the mean of what the two paths give. Zhao et al. 2025 (PPMA), arXiv:2506.15940, section 3; official
    PPMA.py PathEmbeding2D and MambaAttentionAllDouble: the decays are added to the scores in log space there, and queries
    and keys are turned as in RMT. The tokens' own places on the input map are needed.
    """

    places = True
    own_map = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.steps = nn.Linear(width // heads, 2, bias=False)
        first = torch.exp(torch.rand(heads) * math.log(100) + math.log(0.001))
        self.shift = nn.Parameter(first + torch.log(-torch.expm1(-first)))
        self.rate = nn.Parameter(torch.empty(heads).uniform_(1, 1.1).log())

    def turn(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return turn_in_raster_order(x, self.heads)

    def bias(self, layout: Layout, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, P, heads, N, M), twice; once where all pairs lie in one row or column, where the paths are the same."""
        assert layout.query is not None, "the pattern does not say where its queries are"
        assert layout.key is not None, "the pattern does not say where its keys are"
        across, down = self.ways(x)
        query, key, width = layout.query[:, :, None], layout.key[:, None, :], x.shape[2]
        corners = (query // width * width + key % width, key // width * width + query % width)
        first = -(_apart(across, query, corners[0]) + _apart(down, corners[0], key))
        if layout.straight:
            return first
        return first, -(_apart(down, query, corners[1]) + _apart(across, corners[1], key))

    def ways(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The way of each place from the left edge and from the top edge, each (B, heads, H W)."""
        steps = self.steps(x.unflatten(3, (self.heads, x.shape[3] // self.heads)))
        steps = F.softplus(steps + self.shift[:, None]) * self.rate.exp()[:, None]
        across, down = steps[..., 0].cumsum(2), steps[..., 1].cumsum(1)
        return across.flatten(1, 2).transpose(1, 2), down.flatten(1, 2).transpose(1, 2)

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """The two steps of each token and head."""
        return parts * 2 * pixels * self.width


def _apart(ways: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The length of the way between places (P, N or 1, 1 or M) and (P, N or 1, M or 1): (B, P, heads, N, M)."""
    found = [ways.index_select(2, p.flatten()).unflatten(2, p.shape).transpose(1, 2) for p in (start, end)]
    return (found[0] - found[1]).abs()


def turn_reference(module: PolylinePosition, x: Tensor) -> Tensor:
    """As for the fixed decay."""
    return decay.turn_reference(module, x)


def read_reference(module: PolylinePosition, x: Tensor) -> Tensor:
    """The two steps of each token and head: (B, H, W, heads, 2)."""
    steps = naive.linear(module.steps, x.unflatten(3, (module.heads, -1)))
    return torch.log(1 + torch.exp(steps + module.shift[:, None])) * torch.exp(module.rate)[:, None]


def bias_reference(module: PolylinePosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of the path along the query's row first: (B, M)."""
    ways = []
    for (i, j), (y, z) in ((pair.query, pair.key) for pair in pairs):
        across = read[:, i, min(j, z) + 1 : max(j, z) + 1, head, 0].sum(1)
        ways.append(across + read[:, min(i, y) + 1 : max(i, y) + 1, z, head, 1].sum(1))
    return -torch.stack(ways, dim=1)


def other_bias_reference(module: PolylinePosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of the path along the query's column first: (B, M)."""
    back = [Pair(-pair.rows, -pair.columns, pair.key, pair.query) for pair in pairs]
    return bias_reference(module, back, head, read)
