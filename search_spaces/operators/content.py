"""Ranking, gathering and cutting of tokens, for operators whose groups depend on what the tokens hold."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention_base import LOG_100, Attention


def ranked(scores: Tensor, *, descending: bool = False) -> Tensor:
    """The places of the last dimension in the order of their scores, equal ones in their own order.

    ONNX has no stable sort to name, but the runtime's only one is stable.
    """
    if torch.compiler.is_exporting():
        return scores.sort(dim=-1, descending=descending)[1]
    return scores.sort(dim=-1, descending=descending, stable=True)[1]


def taken(x: Tensor, index: Tensor) -> Tensor:
    """The tokens of each image that `index` names: (B, N, C), (B, M) -> (B, M, C)."""
    first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, x.shape[2])


def cell_of(length: int, parts: int) -> int:
    """The length of equal cells, at most `parts`, that cover an axis."""
    return -(-length // parts)


def tiled(x: Tensor, rows: int, columns: int) -> Tensor:
    """(B, H, W, C) -> (B, P, rows * columns, C), with zeros at the bottom and right where tiles reach beyond the map."""
    down, right = -x.shape[1] % rows, -x.shape[2] % columns
    x = F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x
    x = x.unflatten(1, (-1, rows)).unflatten(3, (-1, columns)).transpose(2, 3)
    return x.flatten(1, 2).flatten(2, 3)


def untiled(x: Tensor, height: int, width: int, rows: int, columns: int) -> Tensor:
    """The reverse of `tiled`: (B, P, rows * columns, C) -> (B, H, W, C)."""
    x = x.unflatten(2, (rows, columns)).unflatten(1, (-(-height // rows), -1)).transpose(2, 3)
    return x.flatten(1, 2).flatten(2, 3)[:, :height, :width]


def inside(height: int, width: int, rows: int, columns: int, like: Tensor) -> Tensor | None:
    """Which positions of the tiles lie on the map, (P, rows * columns), or None where all do."""
    if height % rows == 0 and width % columns == 0:
        return None
    return tiled(torch.ones(1, height, width, 1, dtype=like.dtype, device=like.device), rows, columns)[0, :, :, 0] > 0


def cells(height: int, width: int, rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """The positions of each tile, for references."""
    return [
        [(i, j) for i in range(top, min(top + rows, height)) for j in range(left, min(left + columns, width))]
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


def compared(module: Attention, layer: nn.Linear, x: Tensor) -> Tensor:
    """Queries or keys as an attention compares them, plainly, for references: (B, H, W, C) -> (B, H, W, heads, d)."""
    y = naive.linear(layer, x).unflatten(-1, (module.heads, -1))
    if module.score == "cosine":
        y = y / (y**2).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
        y = y * module.temperature.clamp(max=LOG_100).exp()[:, None] if layer is module.q else y
    turn = getattr(importlib.import_module(type(module.position).__module__), "turn_reference", None)
    return y if turn is None else turn(module.position, y)
