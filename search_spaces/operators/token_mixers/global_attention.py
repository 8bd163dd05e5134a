"""Attention of every position to every position."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Group, Kind, register


@register(
    "global_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 1; Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929",
    settings={"heads": HEADS, **modifiers("none", own_map=True)},
)
class GlobalAttention(Attention):
    """softmax(q k^T / sqrt(d)) v over the whole map. MACs: 4 N C^2 + 2 N^2 C with N = H W."""

    def __init__(self, width: int, size: int, *, heads: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, size, heads=heads, **chosen)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All tokens are one tile."""
        layout = everywhere(x.shape[1], x.shape[2], x) if self.position.places else None
        q, k, v = (part.flatten(1, 2)[:, None] for part in (q, k, v))
        return self.mix(x, q, k, v, layout).view(x.shape)


def everywhere(height: int, width: int, like: Tensor) -> Layout:
    """The layout of one tile that holds the whole map."""
    place = torch.arange(height * width, device=like.device)[None]
    steps = [torch.arange(length, device=like.device) for length in (height, width)]
    down, right = (step - step[:, None] for step in steps)
    shape, pairs = (height, width, height, width), (1, height * width, height * width)
    apart = [each.expand(shape).reshape(pairs) for each in (down[:, None, :, None], right[None, :, None])]
    return Layout(apart[0], apart[1], place, place, "map", (down, right))


def reference(module: GlobalAttention, x: Tensor) -> Tensor:
    """Every query sees every pixel."""

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(y - i, z - j, (i, j), (y, z)) for y in range(x.shape[1]) for z in range(x.shape[2])]

    return attention_naive.attend(module, x, sees)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N^2 C for the plain form."""
    pixels = size * size
    return attention_macs(GlobalAttention(width, size, **settings), pixels, pixels, 1, pixels, pixels)
