"""Global attention with one more token for each head, a summary of that head's channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.registry import Group, Kind, Setting, flag, one_of, register


def _without_map() -> Mapping[str, Setting]:
    """The modifiers that need no map: head tokens lie nowhere on it."""
    nowhere = Setting((0,), lambda v, place: v == 0, "head tokens lie nowhere on the map", 0)
    return {**modifiers("none"), "position": one_of("none", default="none"), "lepe": nowhere}


@register(
    "head_token_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Lu et al. 2022 (DHVT), arXiv:2210.05958, section 3.3; official vision_transformer.py HI_Attention",
    settings={"heads": HEADS, "class_token": flag(False), **_without_map()},
)
class HeadTokenAttention(Attention):
    """Attention over the tokens and `heads` head tokens: t_h = gelu(norm(split(project(mean of x's h-th channels)))) + p_h.

    A head's mean, of d = C / heads channels, is projected to C, and normed over each d of them. Head tokens take part as
    keys and queries; afterwards they are dropped, or with `class_token` their mean is added to the first token (the official
    form, for rows of tokens that a class token leads). With N = H W: MACs 4 (N + heads) C^2 + 2 (N + heads)^2 C + C^2.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, class_token: bool = False, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, size, heads=heads, **chosen)
        self.class_token = class_token
        self.head_project, self.head_norm = nn.Linear(width // heads, width), nn.LayerNorm(width // heads)
        self.head_position = nn.Parameter(torch.empty(heads, width))
        nn.init.trunc_normal_(self.head_position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        means = tokens.mean(1).unflatten(-1, (self.heads, -1))
        summaries = self.head_project(means).unflatten(-1, (self.heads, -1))
        summaries = F.gelu(self.head_norm(summaries)).flatten(2) + self.head_position
        y = super().forward(torch.cat((tokens, summaries), dim=1)[:, None])[:, 0]
        kept = y[:, : tokens.shape[1]]
        if self.class_token:
            merged = kept[:, :1] + y[:, tokens.shape[1] :].mean(1, keepdim=True)
            kept = torch.cat((merged, kept[:, 1:]), dim=1)
        return kept.view(x.shape) if kept.is_contiguous() else kept.reshape(x.shape)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All tokens are one tile."""
        return self.mix(x, q, k, v, None)


def reference(module: HeadTokenAttention, x: Tensor) -> Tensor:
    """The head tokens one by one, then attention of everything to everything."""
    tokens = [x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]
    mean = sum(tokens, torch.zeros_like(tokens[0])) / len(tokens)
    depth = x.shape[3] // module.heads
    row = list(tokens)
    for head in range(module.heads):
        projected = naive.linear(module.head_project, mean[:, head * depth : (head + 1) * depth])
        parts = [
            naive.gelu(naive.layer_norm(module.head_norm, projected[:, n : n + depth])) for n in range(0, x.shape[3], depth)
        ]
        row.append(torch.cat(parts, dim=1) + module.head_position[head])

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(0, n - j, (0, j), (0, n)) for n in range(len(row))]

    y = attention_naive.attend(module, torch.stack(row, dim=1)[:, None], sees)[:, 0]
    kept = list(y[:, : len(tokens)].unbind(1))
    if module.class_token:
        kept[0] = kept[0] + sum(y[:, len(tokens) + n] for n in range(module.heads)) / module.heads
    return torch.stack(kept, dim=1).view(x.shape)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 (N + heads) C^2 + 2 (N + heads)^2 C + C^2 for the plain form."""
    module = HeadTokenAttention(width, size, **settings)
    tokens = size * size + module.heads
    return attention_macs(module, tokens, tokens, 1, tokens, tokens) + width**2
