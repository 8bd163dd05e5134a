"""Attention among pixels that lie a fixed stride apart and together span the map."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.attention_windows import WindowedAttention
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.operators.windows import Windows
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "grid_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Tu et al. 2022 (MaxViT), arXiv:2204.01697, section 3.2 (grid attention); timm maxxvit.py PartitionAttentionCl",
    settings={
        "heads": HEADS,
        "grid": Setting(
            (2, 4, 7, 8, 14),
            rule=lambda v, place: 2 <= int(v) <= place.size,
            because="a grid has at least 2 lines each way and not more than the map",
        ),
        **modifiers("table", own_map=True),
    },
)
class GridAttention(WindowedAttention):
    """softmax(q k^T / sqrt(d) + B) v among the grid x grid pixels that are size / grid apart; B by offset in such strides.

    Maps that are no multiple of the grid are padded at the bottom and right; padded keys are masked (the official code
    refuses such maps). MACs: 4 N C^2 + 2 N grid^2 C.
    """

    def __init__(self, width: int, size: int, *, heads: int, grid: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, grid, heads=heads, usual="table", **chosen)
        self.windows = Windows(size, grid, spread=True)


def reference(module: GridAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels whose rows and columns differ from its own by multiples of the strides."""
    down, right = (-(-length // module.windows.window) for length in x.shape[1:3])

    def sees(head: int, i: int, j: int) -> list[Pair]:
        rows, columns = range(i % down, x.shape[1], down), range(j % right, x.shape[2], right)
        return [Pair((y - i) // down, (z - j) // right, (i, j), (y, z)) for y in rows for z in columns]

    return attention_naive.attend(module, x, sees)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N grid^2 C for the plain form, N in the mixing with the padding."""
    module, pixels = GridAttention(width, size, **settings), size * size
    tokens = settings["grid"] ** 2
    return attention_macs(module, pixels, pixels, (-(-size // settings["grid"])) ** 2, tokens, tokens)
