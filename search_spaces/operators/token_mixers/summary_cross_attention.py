"""Global attention that also sees the coarse summaries which earlier blocks made of themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.token_mixers.forward_cross_attention import STRIDE, CrossAttention, attended_reference
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "summary_cross_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhang et al. 2022 (FcaFormer), arXiv:2211.07198, section 3; official fcaformer.py FcaBlock",
    side="summary",
    settings={
        "heads": HEADS,
        "depth": Setting(
            (1, 2, 4),
            lambda v, place: 1 <= int(v) <= 128,
            "it reads at least one summary (without, it is global_attention)",
        ),
    },
)
class SummaryCrossAttention(CrossAttention):
    """`CrossAttention` to the last `depth` summaries that a `summarising_conv` of its stage has emitted.

    Where there are none, every fourth row and column of x itself stand for them. MACs with S = N / 16 places a summary and D
    summaries: 4 N C^2 + 2 N^2 C + 2 D S C (C + N).
    """

    def __init__(self, width: int, size: int, *, heads: int, depth: int) -> None:
        super().__init__(width, size, heads, depth)

    def forward(self, x: Tensor, *summaries: Tensor) -> Tensor:
        """(B, H, W, C), and summaries (B, ceil(H / 4), ceil(W / 4), C), the latest last -> (B, H, W, C)."""
        latest = summaries[::-1][: self.depth] or (x[:, ::STRIDE, ::STRIDE],)
        return self.attended(x, torch.stack(latest))


def reference(module: SummaryCrossAttention, x: Tensor, *summaries: Tensor) -> Tensor:
    """Query by query, as in `forward_cross_attention`."""
    return attended_reference(module, x, list(summaries[::-1])[: module.depth] or [x[:, ::STRIDE, ::STRIDE]])


def macs(width: int, size: int, *, heads: int, depth: int, summaries: int = 1) -> int:
    """Multiply-adds on a size x size map beside so many summaries, of which at most `depth` count."""
    pixels, places = size**2, min(summaries, depth) * (-(-size // STRIDE)) ** 2
    return 2 * pixels * width * (2 * width + pixels) + 2 * places * width * (width + pixels)
