"""Attention of blocks of pixels to themselves and a rim around them."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.operators.windows import Windows, cut, uncut
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register


@register(
    "halo_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Vaswani et al. 2021 (HaloNet), arXiv:2103.12731, section 3.2; timm halo_attn.py HaloAttn",
    settings={
        "heads": HEADS,
        "block": Setting(
            (2, 4, 7, 8, 14),
            rule=lambda v, place: 2 <= int(v) <= place.size,
            because="a block is at least 2 and not larger than the map",
        ),
        "halo": Setting(
            (1, 2, 3, 4),
            rule=lambda v, place: 1 <= int(v) <= int(place.chosen["block"]),
            because="the rim is at least one pixel and not wider than the block",
        ),
        **modifiers("relative_query"),
        "out": one_of("biased", "plain", "none", default="biased"),
    },
)
class HaloAttention(Attention):
    """softmax(q k^T / sqrt(d) + q r) v, for b x b queries over the (b + 2 halo) x (b + 2 halo) pixels around them.

    Beyond the edges of the map keys and values are zero and take part, as in the official code, so that their weight depends
    on the position term alone. Maps that are no multiple of the block are continued by such zeros too (the official code
    refuses them). HaloNet has bias=False and out="none" (its bottleneck block projects afterwards). MACs:
    4 N C^2 + 2 N (b + 2 halo)^2 C + 2 N (2 b + 4 halo - 1) C.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self, width: int, size: int, *, heads: int, block: int, halo: int, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, block + 2 * halo, heads=heads, usual="relative_query", **chosen)
        self.blocks, self.halo = Windows(size, block), halo
        apart = torch.arange(block + 2 * halo) - halo - torch.arange(block)[:, None]
        shape = (block, block, block + 2 * halo, block + 2 * halo)
        self.register_buffer("rows", apart[:, None, :, None].expand(shape).flatten(2).flatten(0, 1)[None], persistent=False)
        self.register_buffer("columns", apart[:, None].expand(shape).flatten(2).flatten(0, 1)[None], persistent=False)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each block of queries is a tile."""
        plan = self.blocks.plan(x.shape[1], x.shape[2])
        layout = Layout(self.rows, self.columns) if self.position.places else None
        tiles = self.mix(x, cut(q, plan), self._around(k), self._around(v), layout)
        return uncut(tiles, plan, x.shape[1], x.shape[2])

    def _around(self, x: Tensor) -> Tensor:
        """What each block sees: (B, H, W, C) -> (B, P, (b + 2 halo)^2, C)."""
        block, halo = self.blocks.window, self.halo
        down, right = -x.shape[1] % block, -x.shape[2] % block
        x = F.pad(x, (0, 0, halo, halo + right, halo, halo + down))
        step, width = torch.arange(block + 2 * halo, device=x.device), x.shape[2]
        rows = torch.arange(0, x.shape[1] - 2 * halo, block, device=x.device)[:, None] + step
        columns = torch.arange(0, width - 2 * halo, block, device=x.device)[:, None] + step
        index = rows[:, None, :, None] * width + columns[None, :, None, :]
        tokens = x.flatten(1, 2).index_select(1, index.flatten())
        return tokens.view(x.shape[0], rows.shape[0] * columns.shape[0], -1, x.shape[3])


def reference(module: HaloAttention, x: Tensor) -> Tensor:
    """Query by query, over its block and the rim, beyond the edges too."""
    block, halo = module.blocks.window, module.halo

    def sees(head: int, i: int, j: int) -> list[Pair]:
        rows, columns = (range(n // block * block - halo, (n // block + 1) * block + halo) for n in (i, j))
        return [Pair(y - i, z - j, (i, j), (y, z)) for y in rows for z in columns]

    return attention_naive.attend(module, x, sees)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N (b + 2 halo)^2 C + 2 N (2 b + 4 halo - 1) C for the plain form, N in the mixing with the padding."""
    module, pixels, block = HaloAttention(width, size, **settings), size * size, settings["block"]
    tiles, keys = (-(-size // block)) ** 2, (block + 2 * settings["halo"]) ** 2
    return attention_macs(module, pixels, pixels, tiles, block * block, keys)
