"""Half of the channels convolved with kernels made from the image, half attending to a coarser map, then both refined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import batch_normed
from nas.search_spaces.operators.token_mixers import dynamic_conv, overlapping_reduction_attention
from nas.search_spaces.operators.token_mixers.dynamic_conv import DynamicConv
from nas.search_spaces.operators.token_mixers.overlapping_reduction_attention import OverlappingReductionAttention
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register


@register(
    "dual_mixer",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Lou et al. 2023 (TransXNet), arXiv:2310.19380, section 3.1 (D-Mixer, STE); official transxnet.py HybridTokenMixer",
    settings={
        "heads": Setting(
            (1, 2, 4, 8),
            lambda v, place: int(v) >= 1 and place.width % (2 * int(v)) == 0 and place.width // int(v) >= 8,
            "the heads divide half of the width and have at least 4 channels each",
        ),
        "reduction": Setting(
            (8, 4, 2, 1),
            lambda v, place: v == 1 or (int(v) > 0 and int(v) % 2 == 0 and int(v) < place.size),
            "a reduction is 1 or even, and smaller than the map, which leaves several keys",
        ),
        "kernel": Setting(
            (3, 7),
            lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            "a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "mixtures": Setting((2, 3, 4), lambda v, place: 2 <= int(v) <= 64, "from 2 to 64 kernels are mixed", 2),
        "position": one_of("none", "pairs", default="none"),
    },
)
class DualMixer(nn.Module):
    """y + STE(y), y = [dynamic_conv(x1), overlapping_reduction_attention(x2)] of the halves of the channels.

    STE, the squeezed token enhancer, is BN(P2 BN(gelu(P1 BN(gelu(DW3 y))))), with max(16, C / 8) channels between the
    pointwise P1 and P2. `position` pairs is the bias that TransXNet has: there one table serves all blocks of a stage, here
    each has its own. In a supernet of several widths a slice of the halves is not the half of a slice: the halves share their
    weights by themselves, and STE along the concatenated channels. With h = C / 2 and S = max(16, C / 8), MACs are those of
    the two operators at width h, and N (9 C + 2 C S).
    """

    def __init__(
        self, width: int, size: int, *, heads: int, reduction: int, kernel: int, mixtures: int = 2, position: str = "none"
    ) -> None:
        super().__init__()
        half, inner = width // 2, max(16, width // 8)
        self.near = DynamicConv(half, size, kernel=kernel, mixtures=mixtures, bottleneck=min(4, half))
        self.far = OverlappingReductionAttention(half, size, heads=heads, reduction=reduction, out="none", position=position)
        self.conv, self.conv_norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width)
        self.squeeze, self.squeeze_norm = nn.Linear(width, inner), nn.BatchNorm2d(inner)
        self.expand, self.expand_norm = nn.Linear(inner, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        first, second = x.chunk(2, dim=3)
        y = torch.cat((self.near(first), self.far(second)), dim=3)
        z = self.conv_norm(F.gelu(self.conv(y.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
        z = batch_normed(self.squeeze_norm, F.gelu(self.squeeze(z)))
        return y + batch_normed(self.expand_norm, self.expand(z))


def reference(module: DualMixer, x: Tensor) -> Tensor:
    """Half by half with their operators' references, then layer by layer."""
    half = x.shape[3] // 2
    first, second = x[..., :half], x[..., half:]
    halves = dynamic_conv.reference(module.near, first), overlapping_reduction_attention.reference(module.far, second)
    y = torch.cat(halves, dim=3)
    z = naive.batch_norm(module.conv_norm, naive.gelu(naive.conv2d(module.conv, y)))
    z = naive.batch_norm(module.squeeze_norm, naive.gelu(naive.linear(module.squeeze, z)))
    return y + naive.batch_norm(module.expand_norm, naive.linear(module.expand, z))


def macs(width: int, size: int, **settings: Any) -> int:
    """Those of both halves, and of the enhancer."""
    module = DualMixer(width, size, **settings)
    bottleneck = min(4, width // 2)
    near = dynamic_conv.macs(
        width // 2, size, kernel=module.near.kernel, mixtures=len(module.near.score), bottleneck=bottleneck
    )
    far = overlapping_reduction_attention.macs(
        width // 2, size, heads=module.far.heads, reduction=module.far.reduction, out="none"
    )
    return near + far + size**2 * width * (9 + 2 * module.squeeze.out_features)
