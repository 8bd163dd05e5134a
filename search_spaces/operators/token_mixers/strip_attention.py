"""Attention to a coarser map by queries and keys of a few channels a head."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, nn

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import (
    ReducedAttention,
    reduced_macs,
    reduced_modifiers,
    reduced_reference,
    strided,
)
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "strip_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Xu et al. 2025 (S2AFormer), arXiv:2505.22195, section III (strip self-attention); no official code found",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2, and smaller than the map, which leaves several keys",
        ),
        "strip": Setting(
            (1, 4, 8),
            rule=lambda v, place: 1 <= int(v) < place.width // int(place.chosen["heads"]),
            because="queries and keys have at least one channel a head and fewer than the values (with as many it is "
            "spatial_reduction_attention)",
        ),
        **{name: setting for name, setting in reduced_modifiers().items() if name != "qk_ratio"},
    },
)
class StripAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(strip)) v(z): queries and keys of `strip` channels a head, values of all channels.

    z is the layer norm of a strided convolution of x, padded as in spatial_reduction_attention. No official code was found:
    the paper says that keys and values are reduced in space and queries and keys in channels, down to one a head; how the
    reduction is normalised is taken from PVT. With M = N / reduction^2 and s = heads * strip: MACs N C (C + s) + M C (2 C +
    s) + N M (C + s).
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, strip: int, **chosen: Unpack[Modifiers]) -> None:
        chosen["qk_ratio"] = (heads * strip + 0.5) / width
        super().__init__(width, -(-size // reduction), heads=heads, **chosen)
        self.reduction = reduction
        self.reduce = nn.Conv2d(width, width, reduction, reduction)
        self.norm = nn.LayerNorm(width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, ceil(H / reduction), ceil(W / reduction), C)."""
        coarse: Tensor = self.norm(strided(self.reduce, x))
        return coarse


def reference(module: StripAttention, x: Tensor) -> Tensor:
    """Query by query, over the coarse positions."""
    x, r = attention_naive.prepared(module, x), module.reduction
    batch, height, width, channels = x.shape
    padded = x.new_zeros(batch, -(-height // r) * r, -(-width // r) * r, channels)
    padded[:, :height, :width] = x
    return reduced_reference(module, x, naive.layer_norm(module.norm, naive.conv2d(module.reduce, padded)))


def macs(width: int, size: int, **settings: Any) -> int:
    """The attention, and the strided convolution of the padded map."""
    module = StripAttention(width, size, **settings)
    cells = (-(-size // module.reduction)) ** 2
    return reduced_macs(module, size**2, cells) + cells * (width * module.reduction) ** 2
