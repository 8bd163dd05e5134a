"""The plain transformer layer, of which operators with several streams of tokens are made."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads


class TransformerLayer(nn.Module):
    """x += out(softmax(q k^T / sqrt(d)) v) of norm(x); x += reduce(GELU(expand(mlp_norm(x)))).

    `bias` is that of the queries, keys and values, `eps` that of the norms.
    """

    def __init__(self, width: int, heads: int, expansion: int, *, bias: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        y = self.norm(x)
        q, k, v = (split_heads(layer(y), self.heads) for layer in (self.q, self.k, self.v))
        x = x + self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        mixed: Tensor = x + self.reduce(F.gelu(self.expand(self.mlp_norm(x))))
        return mixed


def layer_macs(width: int, tokens: int, expansion: int) -> int:
    """Multiply-adds of a `TransformerLayer` for so many tokens."""
    return tokens * (4 + 2 * expansion) * width**2 + 2 * tokens**2 * width


def layer_reference(layer: TransformerLayer, x: Tensor) -> Tensor:
    """Query by query and key by key."""
    y = naive.layer_norm(layer.norm, x)
    q, k, v = (naive.linear(part, y).unflatten(-1, (layer.heads, -1)) for part in (layer.q, layer.k, layer.v))
    keys, values = list(k.unbind(1)), list(v.unbind(1))
    mixed = torch.stack([naive.attend(query, keys, values).flatten(1) for query in q.unbind(1)], dim=1)
    x = x + naive.linear(layer.out, mixed)
    hidden = naive.gelu(naive.linear(layer.expand, naive.layer_norm(layer.mlp_norm, x)))
    return x + naive.linear(layer.reduce, hidden)
