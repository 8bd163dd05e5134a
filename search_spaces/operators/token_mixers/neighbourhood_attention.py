"""Attention of every position to the kernel x kernel nearest ones, optionally dilated, with a relative-position bias."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Group, Kind, Setting, register

Axis = tuple[Tensor, Tensor, Tensor, Tensor]
"""How an axis is cut, as `axis_plan` gives it."""


@register(
    "neighbourhood_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite=(
        "Hassani et al. 2023 (NAT), arXiv:2204.07143, section 3.1; Hassani and Shi 2022 (DiNAT), arXiv:2209.15001; "
        "official NATTEN functional.py na2d, window start and bias index as in its CPU kernels"
    ),
    settings={
        "heads": HEADS,
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 3 <= int(v) <= place.size,
            because="a kernel is odd, at least 3, and not larger than the map",
        ),
        "dilation": Setting(
            (1, 2, 3),
            rule=lambda v, place: int(v) >= 1 and int(place.chosen["kernel"]) * int(v) <= place.size,
            because="a dilated neighbourhood fits the map: kernel * dilation <= map size",
        ),
        **modifiers("table", own_map=True),
    },
)
class NeighbourhoodAttention(Attention):
    """softmax(q k^T / sqrt(d) + B) v over each query's neighbourhood; B is read from a table by (key - query) / dilation.

    Along each axis a query sees the `kernel` positions of its own residue modulo `dilation` that are nearest to it; near an
    edge the neighbourhood is shifted inwards, not cut. On maps smaller than kernel * dilation it is all positions of that
    residue (the official module pads such maps with zeros and lets them take part).

    Neighbourhoods are never gathered one by one: each residue class is cut in tiles of T x T queries, and a tile attends to
    the M x M keys (M = T + kernel - 1, or a whole axis) that its queries see together, the others masked. With N = H W: MACs
    4 N C^2 + 2 N M^2 C executed, of which 2 N kernel^2 C is not masked; memory for keys N C (M / T)^2.
    """

    queries: Tensor
    keys: Tensor
    offset: Tensor
    seen: Tensor

    def __init__(
        self, width: int, size: int, *, heads: int, kernel: int, dilation: int, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, kernel, heads=heads, usual="table", **chosen)
        self.kernel, self.dilation, self.size = kernel, dilation, size
        queries, keys, offset, seen = axis_plan(size, kernel, dilation)
        self.register_buffer("queries", queries, persistent=False)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("seen", seen, persistent=False)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries that lie together are a tile."""
        height, width, dilation = x.shape[1], x.shape[2], self.dilation
        rows, columns = self._plan(height), self._plan(width)
        q = cut(q, dilation, rows[0], columns[0])
        k, v = (cut(part, dilation, rows[1], columns[1]) for part in (k, v))
        layout = self._layout(rows, columns, height, width) if self.position.places else None
        tiles = self.mix(x, q, k, v, layout, seen_in_tiles(rows[3], columns[3]))
        return uncut(tiles, height, width, dilation, rows[0].shape, columns[0].shape)

    def _plan(self, length: int) -> Axis:
        """`axis_plan` of one axis: stored for the size that the module was built for."""
        if length == self.size:
            return self.queries, self.keys, self.offset, self.seen
        queries, keys, offset, seen = axis_plan(length, self.kernel, self.dilation)
        device = self.queries.device
        return queries.to(device), keys.to(device), offset.to(device), seen.to(device)

    def _layout(self, rows: Axis, columns: Axis, height: int, width: int) -> Layout:
        """Offsets in steps of the dilation, the same in all tiles."""
        shape = (rows[2].shape[0], columns[2].shape[0], rows[2].shape[1], columns[2].shape[1])
        apart = rows[2][:, None, :, None].expand(shape), columns[2][None, :, None, :].expand(shape)
        flat = [part.flatten(2).flatten(0, 1)[None] - (self.kernel - 1) for part in apart]
        if not self.position.own_map:
            return Layout(flat[0], flat[1])
        at = [places(rows[n], columns[n], self.dilation, height, width) for n in (0, 1)]
        return Layout(flat[0], flat[1], at[0], at[1])


def tiling(longest: int, shortest: int, kernel: int) -> tuple[int, int]:
    """Number of tiles and queries a tile for one axis, whose residue classes have `shortest` to `longest` positions.

    With two tiles or more, a tile's keys reach kernel // 2 beyond it on both sides. For that to hold every neighbourhood at the
    edges, the first tile and the shortest class's last one need more than kernel // 2 queries. The cost of a square map is
    estimated as (tiles * keys)^2 (queries^2 + 16): scores, and keys to copy, weighted as timed on one CPU thread.
    """
    best, least = (1, longest), longest**2 * (longest**2 + 16)
    for tiles in range(2, longest // (kernel // 2 + 1) + 1):
        tile = -(-longest // tiles)
        cost = (tiles * (tile + kernel - 1)) ** 2 * (tile**2 + 16)
        if min(tile, shortest - (tiles - 1) * tile) > kernel // 2 and cost < least:
            best, least = (tiles, tile), cost
    return best


def axis_plan(length: int, kernel: int, dilation: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How one axis is cut, with n tiles of T queries and M keys for each of the `dilation` residue classes.

    Returns the queries (n, T) and keys (n, M) of a tile as positions in their class, the row of a bias table for each pair
    (T, M), and which keys each query sees (dilation, n, T, M).
    """
    longest, shortest = -(-length // dilation), length // dilation
    tiles, tile = tiling(longest, shortest, kernel)
    reach, halo = (kernel // 2, kernel // 2) if tiles > 1 else (kernel // 2, 0)
    start, query, key = torch.arange(tiles) * tile, torch.arange(tile), torch.arange(tile + 2 * halo) - halo
    queries, keys = start[:, None] + query, start[:, None] + key
    offset = (key - query[:, None]).clamp(1 - kernel, kernel - 1) + kernel - 1
    members = torch.tensor([-(-(length - residue) // dilation) for residue in range(dilation)]).clamp(min=0)
    first = (queries - reach).clamp(min=0)[None].minimum((members - kernel).clamp(min=0)[:, None, None])
    last = (first + kernel).minimum(members[:, None, None])
    seen = (keys[:, None] >= first[..., None]) & (keys[:, None] < last[..., None])
    return queries.clamp(max=longest - 1), keys.clamp(0, longest - 1), offset, seen


def cut(x: Tensor, dilation: int, rows: Tensor, columns: Tensor) -> Tensor:
    """The map (B, H, W, C) in tiles (B, residues * tiles, positions of a tile, C); `rows`, `columns` as from `axis_plan`."""
    batch, height, width, channels = x.shape
    if dilation > 1:
        down, right = -height % dilation, -width % dilation
        x = F.pad(x, (0, 0, 0, right, 0, down))
        x = x.view(batch, (height + down) // dilation, dilation, (width + right) // dilation, dilation, channels)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    x = x.index_select(1, rows.flatten()).index_select(2, columns.flatten())
    x = x.view(x.shape[0], *rows.shape, *columns.shape, channels).transpose(2, 3)
    return x.reshape(batch, -1, rows.shape[1] * columns.shape[1], channels)


def uncut(x: Tensor, height: int, width: int, dilation: int, rows: torch.Size, columns: torch.Size) -> Tensor:
    """The inverse of `cut` for queries: from tiles back to the map (B, H, W, C)."""
    batch, channels = x.shape[0], x.shape[3]
    x = x.view(batch * dilation**2, rows[0], columns[0], rows[1], columns[1], channels).transpose(2, 3)
    x = x.reshape(batch * dilation**2, rows[0] * rows[1], columns[0] * columns[1], channels)
    x = x[:, : -(-height // dilation), : -(-width // dilation)]
    if dilation > 1:
        x = x.view(batch, dilation, dilation, *x.shape[1:]).permute(0, 3, 1, 4, 2, 5).flatten(1, 2).flatten(2, 3)
    return x[:, :height, :width]


def seen_in_tiles(rows: Tensor, columns: Tensor) -> Tensor:
    """Which keys a query sees: (residues * tiles, T_h * T_w, M_h * M_w)."""
    seen = rows[:, None, :, None, :, None, :, None] & columns[None, :, None, :, None, :, None, :]
    return seen.flatten(6, 7).flatten(4, 5).flatten(0, 3)


def hidden(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """0 where a query sees a key, else -1e4: (residues * tiles, 1, T_h * T_w, M_h * M_w)."""
    return (~seen_in_tiles(rows, columns)[:, None]).to(like.dtype) * -1e4


def places(rows: Tensor, columns: Tensor, dilation: int, height: int, width: int) -> Tensor:
    """Where the tokens of `cut` are in the flattened map, some place for those outside: (residues * tiles, tokens)."""
    residue = torch.arange(dilation, device=rows.device)[:, None, None]
    down = (rows * dilation + residue).clamp(max=height - 1)[:, None, :, None, :, None]
    right = (columns * dilation + residue).clamp(max=width - 1)[None, :, None, :, None, :]
    return (down * width + right).flatten(4).flatten(0, 3)


def reference(module: NeighbourhoodAttention, x: Tensor) -> Tensor:
    """Query by query, over its own list of neighbours."""
    step = module.dilation

    def sees(head: int, i: int, j: int) -> list[Pair]:
        rows, columns = (
            _neighbours(place, length, module.kernel, step) for place, length in zip((i, j), x.shape[1:3], strict=True)
        )
        return [Pair((y - i) // step, (z - j) // step, (i, j), (y, z)) for y in rows for z in columns]

    return attention_naive.attend(module, x, sees)


def _neighbours(position: int, length: int, kernel: int, dilation: int) -> list[int]:
    """The positions that `position` sees along one axis."""
    residue = list(range(position % dilation, length, dilation))
    first = min(max(position // dilation - kernel // 2, 0), max(len(residue) - kernel, 0))
    return residue[first : first + kernel]


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 C for each query and key of each tile, those that are masked included."""
    queries, keys, _, seen = axis_plan(size, settings["kernel"], settings["dilation"])
    tiles, pixels = (seen.shape[0] * seen.shape[1]) ** 2, size * size
    module = NeighbourhoodAttention(width, size, **settings)
    return attention_macs(module, pixels, pixels, tiles, queries.shape[1] ** 2, keys.shape[1] ** 2)
