"""Window attention in which half of the heads use the regular windows and half the shifted ones."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import EVEN_HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.operators.token_mixers.window_attention import WINDOW, mates
from nas.search_spaces.operators.windows import Windows, cut, uncut
from nas.search_spaces.registry import Group, Kind, register


@register(
    "double_window_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhang et al. 2022 (StyleSwin), arXiv:2112.10762, section 3.2; official generator.py StyleSwinTransformerBlock",
    settings={"heads": EVEN_HEADS, "window": WINDOW, **modifiers("table", own_map=True)},
)
class DoubleWindowAttention(Attention):
    """softmax(q k^T / sqrt(d) + B) v in windows for the first half of the heads, in windows moved by half for the second.

    A window as large as the map is not moved. Padding and rolling are masked as in window_attention. MACs:
    4 N C^2 + 2 N window^2 C.
    """

    head_symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = ()

    def __init__(self, width: int, size: int, *, heads: int, window: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, window, heads=heads, usual="table", **chosen)
        self.regular = Windows(size, window)
        self.moved = Windows(size, window, shift=window // 2 if window < size else 0)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each window is a tile; the halves are treated as two maps."""
        half, mixed = self.heads // 2, []
        for n, windows in ((0, self.regular), (1, self.moved)):
            plan = windows.plan(x.shape[1], x.shape[2])
            layout = windows.layout(plan) if self.position.places else None
            tiles = [cut(m.chunk(2, dim=3)[n], plan) for m in (q, k, v)]
            out = self.mix(x, tiles[0], tiles[1], tiles[2], layout, plan.seen, slice(n * half, (n + 1) * half))
            mixed.append(uncut(out, plan, x.shape[1], x.shape[2]))
        return torch.cat(mixed, dim=3)


def reference(module: DoubleWindowAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels that lie in the same window of its half's partition."""
    window, shift, half = module.moved.window, module.moved.shift, module.heads // 2

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return mates(i, j, x.shape[1:3], window, 0 if head < half else shift)

    return attention_naive.attend(module, x, sees)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N window^2 C for the plain form, N in the mixing with the padding."""
    module, pixels = DoubleWindowAttention(width, size, **settings), size * size
    tokens, tiles = settings["window"] ** 2, (-(-size // settings["window"])) ** 2
    return attention_macs(module, pixels, pixels, tiles, tokens, tokens, parts=2)
