"""Attention of every position to every other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, register


@register(
    "global_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 1; Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 5-8",
    settings={"heads": HEADS},
)
class GlobalAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v among all N = H W tokens, d = C / heads; no position term of its own.

    Parameters: 4 (C^2 + C). MACs: 4 N C^2 + 2 N^2 C.
    """

    def __init__(self, width: int, size: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.q, self.k, self.v))
        mixed: Tensor = self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return mixed.view(x.shape)


def reference(module: GlobalAttention, x: Tensor) -> Tensor:
    """Query by query."""
    tokens = [x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]
    heads = (module.heads, x.shape[3] // module.heads)
    q, k, v = ([naive.linear(f, t).view(-1, *heads) for t in tokens] for f in (module.q, module.k, module.v))
    mixed = [naive.linear(module.out, naive.attend(query, k, v).flatten(1)) for query in q]
    return torch.stack(mixed, dim=1).view(x.shape)
