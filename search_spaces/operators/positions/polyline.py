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
from nas.search_spaces.operators.positions.decay import turns_in_raster_order


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

    def turns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (H, W, pairs)."""
        return turns_in_raster_order(x, self.narrow // self.heads // 2)

    def bias(self, layout: Layout, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, P, heads, N, M), twice; once where the tiles are rows or columns, in which the paths are the same."""
        across, down = self.ways(x)
        if layout.tiles == "rows":
            return _along(across)
        if layout.tiles == "columns":
            return _along(down.transpose(2, 3))
        if layout.tiles == "map":
            return _whole(across, down)
        assert layout.query is not None, "the pattern does not say where its queries are"
        assert layout.key is not None, "the pattern does not say where its keys are"
        query, key, width = layout.query[:, :, None], layout.key[:, None, :], x.shape[2]
        corners = (query // width * width + key % width, key // width * width + query % width)
        places = [(across, query, corners[0]), (down, corners[0], key), (down, query, corners[1]), (across, corners[1], key)]
        parts = [(_found(ways, start) - _found(ways, end)).abs() for ways, start, end in places]
        return -(parts[0] + parts[1]), -(parts[2] + parts[3])

    def ways(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The way of each place from the left edge and from the top edge, each (B, heads, H, W)."""
        steps = self.steps(x.unflatten(3, (self.heads, x.shape[3] // self.heads)))
        steps = (F.softplus(steps + self.shift[:, None]) * self.rate.exp()[:, None]).permute(4, 0, 3, 1, 2)
        return steps[0].cumsum(3), steps[1].cumsum(2)

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """The two steps of each token and head."""
        return parts * 2 * pixels * self.width


def _along(ways: Tensor) -> Tensor:
    """Minus the way between the places of each line: (B, heads, P, N) -> (B, P, heads, N, N).

    Ways only grow, so that the signs are known; an absolute value would keep all differences for its gradient.
    """
    ways, step = ways.transpose(1, 2), torch.arange(ways.shape[3], device=ways.device)
    return (ways[..., None] - ways[..., None, :]) * (step - step[:, None]).sign().to(ways.dtype)


def _whole(across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Both biases of a tile that is the whole map, from the ways (B, heads, H, W): (B, 1, heads, H W, H W)."""
    rows = -(across[..., :, None] - across[..., None, :]).abs()
    columns = -(down[..., :, None, :] - down[..., None, :, :]).abs()
    first = rows[:, :, :, :, None] + columns[:, :, :, None]
    second = rows.transpose(2, 3)[:, :, None] + columns.transpose(3, 4)[..., None]
    return first.flatten(4, 5).flatten(2, 3)[:, None], second.flatten(4, 5).flatten(2, 3)[:, None]


def _found(ways: Tensor, places: Tensor) -> Tensor:
    """The ways (B, heads, H, W) at places (P, ...) of the flattened map: (B, P, heads, ...)."""
    return ways.flatten(2).index_select(2, places.flatten()).unflatten(2, places.shape).transpose(1, 2)


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
