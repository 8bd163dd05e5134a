"""Attention of every position to all tokens of a smaller map, and what such patterns have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention_base import POSITIONS, Attention, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Setting, one_of

OFF_MAP = ("none", "cpe")
"""Position priors that do not ask where keys lie."""
BETWEEN_MAPS = (*OFF_MAP, "table", "symmetric_table", "log_cpb", "gaussian", "gated", "relative_query")
"""Position priors that need no more than offsets, and so work between maps of two sizes."""
OUT = one_of("biased", "plain", "none", default="biased")
"""The projection of the result where the official module has none: its block projects together with other channels."""


class ReducedAttention(Attention):
    """A pattern whose `sources` are a smaller map, of which every query sees everything.

    Offsets are counted in the smaller map's cells: row i of H lies in its row floor(i h / H) of h. The reach is the length of
    the smaller map's side.
    """

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All queries and all keys are one tile."""
        layout = between(x.shape[1:3], k.shape[1:3], x) if self.position.places else None
        q, k, v = (part.flatten(1, 2)[:, None] for part in (q, k, v))
        return self.mix(x, q, k, v, layout).view(x.shape)


def reduced_modifiers(*, mapped: bool = True) -> Mapping[str, Setting]:
    """The modifiers of a reduced pattern; `mapped` says whether its keys lie on a map, so that they have offsets at all."""
    names = [name for name in POSITIONS if name in (BETWEEN_MAPS if mapped else OFF_MAP)]
    because = "keys lie on another map than queries: " if mapped else "keys lie on no map: "
    return {
        **modifiers("none"),
        "position": Setting(tuple(names), lambda v, place: v in names, because + ", ".join(names), "none"),
        "lepe": Setting((0,), lambda v, place: v == 0, "the values lie on another map than what they would be added to", 0),
    }


def between(queries: tuple[int, ...], keys: tuple[int, ...], like: Tensor) -> Layout:
    """The layout of one tile of all positions of a map and all of a smaller one; both are given by height and width."""
    rows, columns = (
        (torch.arange(m, device=like.device) - (torch.arange(n, device=like.device) * m // n)[:, None])
        for n, m in zip(queries, keys, strict=True)
    )
    shape = (*queries, *keys)
    apart = [
        part.expand(shape).reshape(1, queries[0] * queries[1], keys[0] * keys[1])
        for part in (rows[:, None, :, None], columns[None, :, None, :])
    ]
    places = [torch.arange(n[0] * n[1], device=like.device)[None] for n in (queries, keys)]
    return Layout(apart[0], apart[1], places[0], places[1])


def strided(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose kernel is its stride, on a map filled with zeros at the bottom and right: (B, H, W, C) alike.

    Kernels for channels-last maps first bring the weights into the same order. Where these are larger than all maps, the maps
    are copied instead.
    """
    down, right = (-length % stride for length, stride in zip(x.shape[1:3], conv.stride, strict=True))
    padded = (F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x).permute(0, 3, 1, 2)
    y: Tensor = conv(padded.contiguous() if not torch.compiler.is_exporting() and x.numel() < conv.weight.numel() else padded)
    return y.permute(0, 2, 3, 1)


def cell_means(x: Tensor, cell: int) -> Tensor:
    """Means of cell x cell pixels, of fewer where the map ends: (B, H, W, C) -> (B, ceil(H / cell), ceil(W / cell), C)."""
    down, right = -x.shape[1] % cell, -x.shape[2] % cell
    padded = F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x
    means = F.avg_pool2d(padded.permute(0, 3, 1, 2), cell).permute(0, 2, 3, 1)
    if down or right:
        filled = F.avg_pool2d(F.pad(x.new_ones(1, 1, *x.shape[1:3]), (0, right, 0, down)), cell)
        means = means / filled[0, 0, :, :, None]
    return means


def reduced_reference(module: Attention, x: Tensor, z: Tensor, v: Tensor | None = None) -> Tensor:
    """Every query of x (prepared) sees the whole of z, which the pattern's own reference makes, with the values v."""
    height, width = z.shape[1:3]

    def sees(head: int, i: int, j: int) -> list[Pair]:
        row, column = i * height // x.shape[1], j * width // x.shape[2]
        return [Pair(m - row, n - column, (i, j), (m, n)) for m in range(height) for n in range(width)]

    v = naive.linear(module.v, z) if v is None else v
    return attention_naive.finished(module, x, attention_naive.mixed(module, x, z, v, sees))


def reduced_macs(module: Attention, pixels: int, sources: int) -> int:
    """MACs of an attention of all pixels to all sources, without what makes the sources."""
    return attention_macs(module, pixels, sources, 1, pixels, sources)
