"""Attention of every position to means of consecutive ones, counted along the rows of the map."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import (
    ReducedAttention,
    reduced_macs,
    reduced_modifiers,
    reduced_reference,
)
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "sequence_pooled_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, eq. 4-5 (E-MHSA); official nextvit.py E_MHSA, timm EfficientAttention",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2 (1 is global_attention), and smaller than the map, which leaves several keys",
        ),
        **reduced_modifiers(mapped=False),
    },
)
class SequencePooledAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), z the batch norm of the means of reduction^2 consecutive pixels of x.

    The paper draws pooling in two dimensions; the code, followed here, pools the flattened map, so that a key is a piece of
    one row or of a few rows. A last group that is not full is averaged over the pixels it has (the official code drops it).
    With M = ceil(N / reduction^2): MACs 2 N C^2 + 2 M C^2 + 2 N M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, size, heads=heads, **chosen)
        self.group = reduction**2
        self.pool_norm = nn.BatchNorm2d(width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, 1, ceil(H W / reduction^2), C)."""
        tokens = x.flatten(1, 2)
        missing = -tokens.shape[1] % self.group
        if missing:
            tokens = F.pad(tokens, (0, 0, 0, missing))
        means = tokens.unflatten(1, (-1, self.group)).mean(2)
        if missing:
            means = torch.cat((means[:, :-1], means[:, -1:] * (self.group / (self.group - missing))), dim=1)
        normed: Tensor = self.pool_norm(means.transpose(1, 2)[:, :, None])
        return normed.permute(0, 2, 3, 1)


def reference(module: SequencePooledAttention, x: Tensor) -> Tensor:
    """Query by query, over the groups."""
    x = attention_naive.prepared(module, x)
    tokens = x.flatten(1, 2)
    means = [tokens[:, start : start + module.group].mean(1) for start in range(0, tokens.shape[1], module.group)]
    return reduced_reference(module, x, naive.batch_norm(module.pool_norm, torch.stack(means, dim=1)[:, None]))


def macs(width: int, size: int, **settings: Any) -> int:
    """Pooling and its norm cost nothing here."""
    module = SequencePooledAttention(width, size, **settings)
    return reduced_macs(module, size**2, -(-(size**2) // module.group))
