"""Kernels of their own for each position, head by head, and their application to the nearest neighbours."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContextKernels(nn.Module):
    """softmax(W affinity + b + table) over the kernel x kernel nearest positions of each position, applied to values.

    Near an edge the neighbourhood is shifted inwards, not cut; `table` holds a bias for each head and offset from query to
    neighbour. The part of official overlock.py DynamicConvBlock between `weight_proj` and NATTEN's na2d_av; no neighbourhood is
    gathered: the map is cut in tiles, and a tile's queries meet all its keys with weights 0 where they are no neighbours.
    """

    queries: Tensor
    keys: Tensor
    taps: Tensor
    back: Tensor
    offsets: Tensor
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"weight": (0, 1), "bias": (0, 1), "table": (1, 2)}

    def __init__(self, size: int, heads: int, kernel: int, cells: int) -> None:
        super().__init__()
        self.size, self.kernel = size, kernel
        self.weight = nn.Parameter(torch.empty(kernel, kernel, cells))
        self.bias = nn.Parameter(torch.zeros(kernel, kernel))
        self.table = nn.Parameter(torch.zeros(heads, 2 * kernel - 1, 2 * kernel - 1))
        nn.init.uniform_(self.weight, -(cells**-0.5), cells**-0.5)
        queries, keys, taps, back, offsets = plan(size, size, kernel)
        self.register_buffer("queries", queries, persistent=False)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("taps", taps, persistent=False)
        self.register_buffer("back", back, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, affinity: Tensor, values: Tensor) -> Tensor:
        """(B, heads, H W, cells) and (B, H, W, C) -> (B, H, W, C). H and W are at least `kernel`."""
        batch, height, width, channels = values.shape
        queries, keys, taps, back, offsets = self._plan(height, width)
        heads = affinity.shape[1]
        table = self.table.flatten(1).index_select(1, offsets.flatten()).view(heads, *offsets.shape)
        logits = F.linear(affinity, self.weight.flatten(0, 1), self.bias.flatten()) + table
        weights = F.pad(logits.softmax(-1), (0, 1)).index_select(2, queries.flatten())
        weights = weights.unflatten(2, queries.shape).gather(-1, taps.expand(batch, heads, *taps.shape))
        values = values.flatten(1, 2).index_select(1, keys.flatten()).view(batch, *keys.shape, heads, channels // heads)
        mixed = weights @ values.permute(0, 3, 1, 2, 4)
        mixed = mixed.flatten(2, 3).index_select(2, back).transpose(1, 2)
        return mixed.reshape(batch, height, width, channels)

    def _plan(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`plan` of a map, stored for the size that the module was built for."""
        if (height, width) == (self.size, self.size):
            return self.queries, self.keys, self.taps, self.back, self.offsets
        queries, keys, taps, back, offsets = (table.to(self.taps.device) for table in plan(height, width, self.kernel))
        return queries, keys, taps, back, offsets


def tiling(length: int, kernel: int) -> tuple[int, int, int]:
    """Number of tiles of one axis, and the queries and keys of one, which overlap the next one's by kernel - 1.

    The cost of a square map is estimated as (tiles * keys)^2 (queries^2 + 16): products, and values to copy.
    """
    found = []
    for queries in range(1, length + 1):
        tiles, keys = -(-length // queries), min(length, queries + kernel - 1)
        found.append(((tiles * keys) ** 2 * (queries**2 + 16), tiles, queries, keys))
    return min(found)[1:]


def axis_plan(length: int, kernel: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One axis: the queries (n, T) and keys (n, M) of its tiles, and for each pair (n, T, M) which tap the key is to the query.

    A tap outside 0 .. kernel - 1 says that they are no neighbours. The last tile repeats the last query to be full. The fourth
    table (length, kernel) is the offset of each tap from its query, plus kernel - 1.
    """
    tiles, queries, keys = tiling(length, kernel)
    first = torch.arange(tiles) * queries
    query = (first[:, None] + torch.arange(queries)).clamp(max=length - 1)
    key = (first - kernel // 2).clamp(0, length - keys)[:, None] + torch.arange(keys)
    start = (torch.arange(length) - kernel // 2).clamp(0, length - kernel)
    offset = (start - torch.arange(length))[:, None] + torch.arange(kernel) + kernel - 1
    return query, key, key[:, None, :] - start[query][:, :, None], offset


def plan(height: int, width: int, kernel: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """How a map is cut in P tiles of T queries and M keys, positions counted row by row.

    Returns the queries (P, T) and keys (P, M); the tap of each pair (P, T, M), kernel^2 for pairs that are no neighbours; for
    each position where its query stands among all P T; and for each position and tap its entry of the table of offsets.
    """
    rows, columns = axis_plan(height, kernel), axis_plan(width, kernel)
    queries = (rows[0][:, None, :, None] * width + columns[0][None, :, None, :]).flatten(2).flatten(0, 1)
    keys = (rows[1][:, None, :, None] * width + columns[1][None, :, None, :]).flatten(2).flatten(0, 1)
    row, column = rows[2][:, None, :, None, :, None], columns[2][None, :, None, :, None, :]
    inside = (row >= 0) & (row < kernel) & (column >= 0) & (column < kernel)
    taps = torch.where(inside, row * kernel + column, kernel**2).flatten(4).flatten(2, 3).flatten(0, 1)
    back = torch.empty(height * width, dtype=torch.long).scatter_(0, queries.flatten(), torch.arange(queries.numel()))
    offsets = rows[3][:, None, :, None] * (2 * kernel - 1) + columns[3][None, :, None, :]
    return queries, keys, taps, back, offsets.flatten(2).flatten(0, 1)


def kernels_macs(width: int, size: int, heads: int, kernel: int, cells: int) -> int:
    """Multiply-adds for `width` channels on a size x size map: kernels from affinities, and their application in tiles."""
    tiles, queries, keys = tiling(size, kernel)
    return size**2 * heads * cells * kernel**2 + (tiles * queries * keys) ** 2 * width


def kernels_reference(module: ContextKernels, query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """Position by position and tap by tap; queries (B, H, W, D), keys (B, cells, D), values (B, H, W, C)."""
    batch, height, width, channels = values.shape
    heads, kernel = module.table.shape[0], module.kernel
    lines = []
    for row in range(height):
        line = []
        for column in range(width):
            top = min(max(row - kernel // 2, 0), height - kernel)
            left = min(max(column - kernel // 2, 0), width - kernel)
            own = query[:, row, column].view(batch, 1, heads, -1)
            affinity = (own * key.view(batch, -1, heads, own.shape[-1])).sum(-1)
            logits = torch.einsum("blh,uvl->bhuv", affinity, module.weight) + module.bias
            down, right = top - row + kernel - 1, left - column + kernel - 1
            logits = logits + module.table[:, down : down + kernel, right : right + kernel]
            weights = logits.exp() / logits.exp().sum((2, 3), keepdim=True)
            near = values[:, top : top + kernel, left : left + kernel].reshape(batch, kernel, kernel, heads, -1)
            line.append(torch.einsum("bhuv,buvhc->bhc", weights, near).reshape(batch, channels))
        lines.append(torch.stack(line, dim=1))
    return torch.stack(lines, dim=1)
