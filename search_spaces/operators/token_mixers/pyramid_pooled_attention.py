"""Attention of every position to the map pooled at several scales at once."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import (
    ReducedAttention,
    reduced_macs,
    reduced_modifiers,
    reduced_reference,
)
from nas.search_spaces.operators.token_mixers.pooled_key_attention import pooled_reference
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, register

PYRAMIDS = {"coarse": (12, 16, 20, 24), "middle": (6, 8, 10, 12), "fine": (3, 4, 5, 6), "finest": (1, 2, 3, 4)}
"""The pooling ratios of the four stages of P2T."""


def _fits(value: Value, place: Place) -> bool:
    return value in PYRAMIDS and PYRAMIDS[str(value)][-1] <= place.size


@register(
    "pyramid_pooled_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wu et al. 2022 (P2T), arXiv:2106.12011, section III-B; official p2t.py PoolingAttention",
    settings={
        "heads": HEADS,
        "pyramid": Setting(
            tuple(PYRAMIDS),
            _fits,
            f"it is one of {', '.join(PYRAMIDS)}, whose largest pooling ratio is not larger than the map",
        ),
        **reduced_modifiers(mapped=False),
    },
)
class PyramidPooledAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), z = norm(p_1 + DW3(p_1), ..., p_4 + DW3(p_4)), all their pixels in one list.

    p_i holds the means of x over round(H / r_i) x round(W / r_i) cells (at least one), r the ratios of the pyramid: coarse
    12, 16, 20, 24; middle 6, 8, 10, 12; fine 3, 4, 5, 6; finest 1, 2, 3, 4. In the official code all blocks of a stage share
    the four depth-wise convolutions; here each block has its own. MACs with M pixels in all p_i together: 2 N C^2 +
    2 M C^2 + 2 N M C + 9 M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, pyramid: str, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, size, heads=heads, **chosen)
        self.ratios = PYRAMIDS[pyramid]
        self.local = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in self.ratios)
        self.norm = nn.LayerNorm(width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, 1, M, C)."""
        levels = []
        for ratio, local in zip(self.ratios, self.local, strict=True):
            level = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), cells(x.shape[1], x.shape[2], ratio))
            levels.append((level + local(level)).flatten(2))
        listed: Tensor = self.norm(torch.cat(levels, dim=2).transpose(1, 2))
        return listed[:, None]


def cells(height: int, width: int, ratio: int) -> tuple[int, int]:
    """Rows and columns of a level; halves are rounded to even, as in the official code."""
    return max(1, round(int(height) / ratio)), max(1, round(int(width) / ratio))


def reference(module: PyramidPooledAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels of all levels."""
    x, levels = attention_naive.prepared(module, x), []
    for ratio, local in zip(module.ratios, module.local, strict=True):
        level = pooled_reference(x, max(1, round(x.shape[1] / ratio)), max(1, round(x.shape[2] / ratio)))
        assert isinstance(local, nn.Conv2d)
        levels.append((level + naive.conv2d(local, level)).flatten(1, 2))
    return reduced_reference(module, x, naive.layer_norm(module.norm, torch.cat(levels, dim=1))[:, None])


def macs(width: int, size: int, **settings: Any) -> int:
    """The attention, and the depth-wise convolutions of all levels."""
    module = PyramidPooledAttention(width, size, **settings)
    keys = sum(cells(size, size, ratio)[0] ** 2 for ratio in module.ratios)
    return reduced_macs(module, size**2, keys) + 9 * keys * width
