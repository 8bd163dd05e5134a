"""Attention of channels to the most similar channels, for several numbers of them at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.token_mixers.channel_attention import cosines_reference, projected_reference
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

SHARES = ((1, 2), (2, 3), (3, 4), (4, 5))
"""The shares of a head's channels that the attentions of the official code keep."""


@register(
    "sparse_channel_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Chen et al. 2023 (DRSformer), arXiv:2303.11950, eq. 3-4 (TKSA); official DRSformer_arch.py Attention",
    settings={
        "heads": HEADS,
        "rates": Setting(
            (1, 2, 4),
            lambda v, place: 1 <= int(v) <= len(SHARES),
            "the number of shares of channels that are kept, of 1/2, 2/3, 3/4, 4/5 the first ones",
        ),
        "bias": flag(True),
    },
)
class SparseChannelAttention(nn.Module):
    """y = out(sum_i w_i softmax(top_i(S)) v), S = t_h q_c . k_e / (|q_c| |k_e|) between the channels c, e of a head.

    q, k and v are linear maps of x followed by depth-wise 3 x 3 convolutions, which alone mix pixels: the attention is over
    channels, other than the paper's figures suggest. top_i keeps the share 1/2, 2/3, 3/4, 4/5 of each row, rounded down;
    among equals the first. The attentions are added up before they meet the values: one product instead of one a rate. With
    d = C / heads: MACs 4 N C^2 + 2 N C d + 27 N C.
    """

    def __init__(self, width: int, size: int, *, heads: int, rates: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.kept = [width // heads * share // of for share, of in SHARES[:rates]]
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias) for _ in range(4))
        self.depthwise = nn.ModuleDict(
            {name: nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias) for name in ("q", "k", "v")}
        )
        self.head_scale = nn.Parameter(torch.ones(heads))
        self.rate_weights = nn.Parameter(torch.full((rates,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = x.permute(0, 3, 1, 2)
        q, k, v = (
            self.depthwise[name](layer(x).permute(0, 3, 1, 2)).flatten(2).unflatten(1, (self.heads, -1))
            for name, layer in (("q", self.q), ("k", self.k), ("v", self.v))
        )
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
        weights = self.kept_weights(cosines * self.head_scale[:, None, None])
        out: Tensor = self.out((weights @ v).flatten(1, 2).unflatten(2, y.shape[2:]).permute(0, 2, 3, 1))
        return out

    def kept_weights(self, scores: Tensor) -> Tensor:
        """The weighted sum of all rates' attentions: (B, heads, d, d) -> same."""
        values, places = scores.sort(dim=-1, descending=True)
        total = torch.zeros_like(values)
        for rate, kept in enumerate(self.kept):
            share = values[..., :kept].softmax(-1) * self.rate_weights[rate]
            total = total + F.pad(share, (0, values.shape[-1] - kept))
        return torch.zeros_like(scores).scatter(-1, places, total)


def reference(module: SparseChannelAttention, x: Tensor) -> Tensor:
    """Channel by channel, rate by rate."""
    convs = [module.depthwise[name] for name in ("q", "k", "v")]
    q, k, v = (
        projected_reference(layer, conv, module.heads, x)
        for layer, conv in zip((module.q, module.k, module.v), convs, strict=True)
    )
    channels = []
    for head in range(module.heads):
        for channel in range(q.shape[-1]):
            scores = cosines_reference(q, k, channel, head) * module.head_scale[head]
            rows = [_row(module, row, value) for row, value in zip(scores, v[:, :, head], strict=True)]
            channels.append(torch.stack(rows))
    return naive.linear(module.out, torch.stack(channels, dim=-1)).view(x.shape)


def _row(module: SparseChannelAttention, scores: Tensor, values: Tensor) -> Tensor:
    """One channel of one image: scores (d,), values (N, d) -> (N,)."""
    order = sorted(range(len(scores)), key=lambda channel: -float(scores[channel].detach()))
    out = torch.zeros_like(values[:, 0])
    for rate, kept in enumerate(module.kept):
        terms = [torch.exp(scores[channel]) for channel in order[:kept]]
        mixed = sum((term * values[:, channel] for term, channel in zip(terms, order, strict=False)), torch.zeros_like(out))
        out = out + module.rate_weights[rate] * mixed / sum(terms, torch.zeros_like(terms[0]))
    return out


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N C d + 27 N C."""
    return size**2 * width * (4 * width + 2 * (width // settings["heads"]) + 27)
