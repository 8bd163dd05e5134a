"""Attention of every position to a coarser copy of the map."""

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
    "spatial_reduction_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite=(
        "Wang et al. 2021 (PVT), arXiv:2102.12122, eq. 1-4; official pvt.py Attention; timm pvt_v2.py Attention, twins.py "
        "GlobalSubSampleAttn"
    ),
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2 (1 is global_attention), and smaller than the map, which leaves several keys",
        ),
        **reduced_modifiers(),
    },
)
class SpatialReductionAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), with z the layer norm of a reduction x reduction convolution of x at that stride.

    The paper reshapes and multiplies by a matrix; the code, followed here, writes the same map as a strided convolution. Maps
    that are no multiple of the reduction are padded with zeros at the bottom and right (the official code drops the rest).
    With N = H W and M = N / reduction^2: parameters 4 (C^2 + C) + reduction^2 C^2 + 3 C, MACs 3 N C^2 + 2 M C^2 + 2 N M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, -(-size // reduction), heads=heads, **chosen)
        self.reduction = reduction
        self.reduce = nn.Conv2d(width, width, reduction, reduction)
        self.norm = nn.LayerNorm(width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, ceil(H / reduction), ceil(W / reduction), C)."""
        coarse: Tensor = self.norm(strided(self.reduce, x))
        return coarse


def reference(module: SpatialReductionAttention, x: Tensor) -> Tensor:
    """Query by query, over the coarse positions."""
    x, r = attention_naive.prepared(module, x), module.reduction
    batch, height, width, channels = x.shape
    padded = x.new_zeros(batch, -(-height // r) * r, -(-width // r) * r, channels)
    padded[:, :height, :width] = x
    return reduced_reference(module, x, naive.layer_norm(module.norm, naive.conv2d(module.reduce, padded)))


def macs(width: int, size: int, **settings: Any) -> int:
    """The attention, and the strided convolution of the padded map."""
    module = SpatialReductionAttention(width, size, **settings)
    cells = (-(-size // module.reduction)) ** 2
    return reduced_macs(module, size**2, cells) + cells * (width * module.reduction) ** 2
