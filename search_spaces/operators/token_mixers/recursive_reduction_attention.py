"""Attention of every position to a map that one strided convolution has reduced again and again."""

from __future__ import annotations

from typing import Any, Unpack

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
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, register


def _leaves_keys(value: Value, place: Place) -> bool:
    return int(value) >= 1 and int(place.chosen["stride"]) ** int(value) < max(place.size, 2)


@register(
    "recursive_reduction_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Chen et al. 2023 (RGT), arXiv:2303.06373, section 3.2 (RG-SA); official basicsr/archs/rgt_arch.py RG_SA",
    settings={
        "heads": HEADS,
        "stride": Setting((4, 2), lambda v, place: 2 <= int(v) < place.size, "a stride is at least 2 and smaller than the map"),
        "recursions": Setting(
            (2, 1),
            _leaves_keys,
            "at least one recursion, and stride^recursions smaller than the map, which leaves several keys",
        ),
        **reduced_modifiers(),
    },
)
class RecursiveReductionAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) (v + DW3(v)), v = v(z), z = gelu(norm(narrow(DW3(r(...r(x)))))).

    r is one depth-wise stride x stride convolution at that stride, applied `recursions` times with the same weights; maps
    that the stride does not divide are padded with zeros at the bottom and right. z has the channels of queries and keys,
    qk_ratio C (officially half of C). The official module takes as many recursions as the map's size asks for, by one rule in
    training and by another in evaluation; here their number is a setting, so that both agree. With M keys and n = qk_ratio C:
    MACs N C (C + n) + M (2 n C + n^2) + N M (C + n) + 18 M C + C stride^2 times the positions that r is evaluated at.
    """

    def __init__(self, width: int, size: int, *, heads: int, stride: int, recursions: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, -(-size // stride**recursions), heads=heads, **chosen)
        self.stride, self.recursions, narrow = stride, recursions, self.q.out_features
        self.k, self.v = (nn.Linear(narrow, layer.out_features, layer.bias is not None) for layer in (self.k, self.v))
        self.shrink_again = nn.Conv2d(width, width, stride, stride, groups=width)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.narrow = nn.Linear(width, narrow)
        self.narrow_norm = nn.LayerNorm(narrow)
        self.value_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, ceil(H / stride^recursions), ceil(W / stride^recursions), qk_ratio C)."""
        y = x.permute(0, 3, 1, 2)
        for _ in range(self.recursions):
            y = self.shrink_again(F.pad(y, (0, -y.shape[3] % self.stride, 0, -y.shape[2] % self.stride)))
        return F.gelu(self.narrow_norm(self.narrow(self.local(y).permute(0, 2, 3, 1))))

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The values receive their convolution first."""
        return super().attend(x, q, k, v + self.value_conv(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def reference(module: RecursiveReductionAttention, x: Tensor) -> Tensor:
    """Query by query, over all keys."""
    y = x = attention_naive.prepared(module, x)
    s = module.stride
    for _ in range(module.recursions):
        batch, height, width, channels = y.shape
        padded = y.new_zeros(batch, -(-height // s) * s, -(-width // s) * s, channels)
        padded[:, :height, :width] = y
        y = naive.conv2d(module.shrink_again, padded)
    narrow = naive.linear(module.narrow, naive.conv2d(module.local, y))
    z = naive.gelu(naive.layer_norm(module.narrow_norm, narrow))
    v = naive.linear(module.v, z)
    return reduced_reference(module, x, z, v + naive.conv2d(module.value_conv, v))


def macs(width: int, size: int, **settings: Any) -> int:
    """Projections, products, and depth-wise convolutions at every scale."""
    module = RecursiveReductionAttention(width, size, **settings)
    side, shrinking, narrow = size, 0, module.q.out_features
    for _ in range(module.recursions):
        side = -(-side // module.stride)
        shrinking += side**2 * width * module.stride**2
    keys = side**2
    saved = keys * (width - narrow) * (narrow + width)
    return reduced_macs(module, size**2, keys) - saved + keys * width * (narrow + 18) + shrinking
