"""Attention through a few cluster tokens: they read the map, then every position reads them."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import ReducedAttention, reduced_macs, reduced_modifiers, reduced_reference
from nas.search_spaces.operators.clusters import ClusterGather, gather_macs, gather_reference, pooled, pooled_reference
from nas.search_spaces.registry import Group, Kind, Setting, flag, one_of, register


@register(
    "cluster_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Chang et al. 2023 (STViT), arXiv:2303.08685, section 3; official STViT-R models/layers.py SemanticAttentionBlock, "
    "Attention; Yuan et al. 2020 (OCR), arXiv:1909.11065, eq. 2-4",
    settings={
        "heads": HEADS,
        "grid": Setting(
            (2, 4, 8),
            rule=lambda v, place: 1 <= int(v) < place.size,
            because="there are grid^2 clusters, at least one and fewer than positions: grid < map size",
        ),
        "start": one_of("mean", "max", "learned", default="mean"),
        "hard": flag(False),
        **reduced_modifiers(mapped=False),
    },
)
class ClusterAttention(ReducedAttention):
    """softmax(q(x) k(s)^T / sqrt(d)) v(s), s the clusters after they have attended to themselves and all tokens.

    There are m = grid^2 clusters. They start as means or maxima of grid x grid cells of the map (the official code takes
    maxima, window by window) or as learned vectors, and are refined by `ClusterGather`, where `hard` assigns each token to
    one cluster. The official blocks have norms and MLPs between the steps; here both are one mixer. With N = H W: MACs
    4 N C^2 + 4 N m C + 6 m C^2 + 2 m^2 C.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, grid: int, start: str = "mean", hard: bool = False,
        **chosen: Unpack[Modifiers],
    ) -> None:  # fmt: skip
        super().__init__(width, grid, heads=heads, **chosen)
        self.grid, self.start = grid, start
        self.gather = ClusterGather(width, heads, hard=hard, bias=chosen.get("bias", True))
        self.clusters = nn.Parameter(torch.randn(grid, grid, width) * 0.02) if start == "learned" else None

    def sources(self, x: Tensor) -> Tensor:
        """The refined clusters: (B, grid, grid, C)."""
        learned = self.clusters
        first = pooled(x, self.grid, self.start) if learned is None else learned.expand(x.shape[0], -1, -1, -1)
        refined: Tensor = self.gather(first.flatten(1, 2), x.flatten(1, 2))
        return refined.view(first.shape)


def reference(module: ClusterAttention, x: Tensor) -> Tensor:
    """The clusters one by one, then every position reads them all."""
    x = attention_naive.prepared(module, x)
    if module.clusters is None:
        first = pooled_reference(x, module.grid, module.start)
    else:
        first = torch.stack([module.clusters] * x.shape[0])
    refined = gather_reference(module.gather, first.flatten(1, 2), x.flatten(1, 2))
    return reduced_reference(module, x, refined.view(first.shape))


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 4 N m C + 6 m C^2 + 2 m^2 C for the plain form."""
    module = ClusterAttention(width, size, **settings)
    clusters = module.grid**2
    return gather_macs(width, clusters, size * size) + reduced_macs(module, size * size, clusters)
