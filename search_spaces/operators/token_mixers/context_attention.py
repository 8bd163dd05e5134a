"""One context vector for the whole map, pooled by attention and added at every position."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register

RATIOS = tuple(2.0**n for n in range(-4, 5))


@register(
    "context_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Cao et al. 2019 (GCNet), arXiv:1904.11492, eq. 4; Yuan et al. 2023 (Isomer), arXiv:2308.06693; official "
    "mmdet/ops/gcb/context_block.py ContextBlock and lib/module/cst.py GlobalContextBlock",
    settings={
        "ratio": Setting(
            (0.125, 0.25, 1.0),
            rule=lambda v, place: v in RATIOS and float(v) * place.width >= 2,
            because="it is a power of two from 1/16 to 16, and leaves the context at least 2 channels",
        ),
        "pool": one_of("attention", "mean", default="attention"),
    },
)
class ContextAttention(nn.Module):
    """y = expand(relu(norm(reduce(c)))) at every position; c = sum over the map of softmax(score(x)) x, or its mean.

    The same vector for all queries: attention whose keys do not depend on the query. `ratio` is that of the channels between
    reduce and expand (GCNet 1/16 and 1/4, Isomer 16). The residual x + y is the block's. With N = H W: MACs
    2 N C + 2 ratio C^2.
    """

    def __init__(self, width: int, size: int, *, ratio: float, pool: str = "attention") -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.score = nn.Linear(width, 1) if pool == "attention" else None
        self.reduce, self.expand = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        context = tokens.mean(1) if self.score is None else pooled(self.score, tokens)
        out: Tensor = self.expand(F.relu(self.norm(self.reduce(context))))
        return out[:, None, None].expand(x.shape)


def pooled(score: nn.Linear, tokens: Tensor) -> Tensor:
    """softmax(score(tokens)) tokens, (B, N, C) -> (B, C), as attention by the one query that the score's weight is.

    The fused kernel reads the tokens from memory once. The score's bias shifts all scores alike and changes nothing: it is
    here for its gradient of 0.
    """
    query = (score.weight + 0 * score.bias).expand(tokens.shape[0], 1, 1, -1)
    keys = tokens[:, None]
    return F.scaled_dot_product_attention(query, keys, keys, scale=1.0)[:, 0, 0]


def reference(module: ContextAttention, x: Tensor) -> Tensor:
    """Token by token."""
    tokens = [x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]
    if module.score is None:
        shares = [torch.ones_like(tokens[0][:, :1]) / len(tokens)] * len(tokens)
    else:
        scores = torch.stack([naive.linear(module.score, token) for token in tokens])
        powers = torch.exp(scores - scores.amax(0))
        shares = list(powers / powers.sum(0))
    context = sum((share * token for share, token in zip(shares, tokens, strict=True)), torch.zeros_like(tokens[0]))
    hidden = naive.layer_norm(module.norm, naive.linear(module.reduce, context)).clamp(min=0)
    return naive.linear(module.expand, hidden)[:, None, None].repeat(1, x.shape[1], x.shape[2], 1)


def macs(width: int, size: int, *, ratio: float, pool: str = "attention") -> int:
    """2 N C for the attention, 2 ratio C^2 for the transformation of the one vector."""
    return (2 * size**2 * width if pool == "attention" else 0) + 2 * width * int(width * ratio)
