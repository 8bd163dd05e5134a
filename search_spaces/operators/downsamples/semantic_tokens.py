"""A whole map condensed to a few semantic tokens, whatever its size."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.clusters import ClusterGather, gather_reference, pooled, pooled_reference
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register


@register(
    "semantic_tokens",
    Kind.DOWNSAMPLE,
    cite="Chang et al. 2023 (STViT), arXiv:2303.08685, section 3.1; official STViT-R models/layers.py SemanticAttentionBlock",
    settings={
        "heads": HEADS,
        "grid": Setting((4, 2), lambda v, place: int(v) >= 1, "there are grid^2 tokens, at least one"),
        "start": one_of("max", "mean", default="max"),
        "hard": flag(False),
        "bias": flag(True),
    },
    out_map=lambda height, width, settings: (int(settings["grid"]), int(settings["grid"])),
)
class SemanticTokens(nn.Module):
    """A grid x grid map of tokens, the maxima or means of its cells, that have attended to themselves and the whole map.

    The official code takes 3 x 3 such tokens for each 7 x 7 window; here the grid covers the map. A linear map comes first
    where the width changes.
    """

    def __init__(
        self, in_width: int, width: int, *, heads: int, grid: int, start: str = "max", hard: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.grid, self.start = grid, start
        self.linear = nn.Linear(in_width, width) if in_width != width else None
        self.gather = ClusterGather(width, heads, hard=hard, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, grid, grid, width)."""
        y = x if self.linear is None else self.linear(x)
        first = pooled(y, self.grid, self.start)
        refined: Tensor = self.gather(first.flatten(1, 2), y.flatten(1, 2))
        return refined.view(first.shape)


def reference(module: SemanticTokens, x: Tensor) -> Tensor:
    """Cell by cell, then cluster by cluster."""
    y = x if module.linear is None else naive.linear(module.linear, x)
    first = pooled_reference(y, module.grid, module.start)
    return gather_reference(module.gather, first.flatten(1, 2), y.flatten(1, 2)).view(first.shape)
