"""Half of the channels convolved with kernels made from the image, half attending to a coarser map, then both refined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention_base import mix_fast
from nas.search_spaces.operators.attention_reduced import between
from nas.search_spaces.operators.channel_mixers.mlp import batch_normed
from nas.search_spaces.operators.token_mixers import dynamic_conv, overlapping_reduction_attention
from nas.search_spaces.operators.token_mixers.dynamic_conv import DynamicConv
from nas.search_spaces.operators.token_mixers.overlapping_reduction_attention import (
    OverlappingReductionAttention,
    PairPosition,
    stretched_reference,
)
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register


@register(
    "dual_mixer",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    side="positions",
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
    pointwise P1 and P2. The attention adds a table of biases to its scores: its own, with `position` pairs, or, as in
    TransXNet, one that `pair_positions` emits for all blocks of the stage. In a supernet of several widths a slice of the
    halves is not the half of a slice: the halves share their weights by themselves, and STE along the concatenated channels.
    With h = C / 2 and S = max(16, C / 8), MACs are those of the two operators at width h, and N (9 C + 2 C S).
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

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """(B, H, W, C), and biases (B, heads, N, M), the same for each image -> (B, H, W, C)."""
        first, second = x.chunk(2, dim=3)
        far = self.far(second) if positions is None else self._attended(second, positions[:1])
        y = torch.cat((self.near(first), far), dim=3)
        z = self.conv_norm(F.gelu(self.conv(y.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
        z = batch_normed(self.squeeze_norm, F.gelu(self.squeeze(z)))
        return y + batch_normed(self.expand_norm, self.expand(z))

    def _attended(self, x: Tensor, positions: Tensor) -> Tensor:
        """The attention with biases (1, heads, N, M) beside its own."""
        z = self.far.sources(x)
        if self.far.position.places:
            own = self.far.position.bias(between(x.shape[1:3], z.shape[1:3], x), x)
            positions = positions + own if isinstance(own, Tensor) else positions
        q, k, v = (part.flatten(1, 2)[:, None] for part in self.far.projected(x, z))
        return mix_fast(q, k, v, positions, self.far.heads, self.far.scale).view(x.shape)


def reference(module: DualMixer, x: Tensor, positions: Tensor | None = None) -> Tensor:
    """Half by half, the second query by query, then layer by layer."""
    half = x.shape[3] // 2
    near = dynamic_conv.reference(module.near, x[..., :half])
    y = torch.cat((near, _far_reference(module.far, x[..., half:], positions)), dim=3)
    z = naive.batch_norm(module.conv_norm, naive.gelu(naive.conv2d(module.conv, y)))
    z = naive.batch_norm(module.squeeze_norm, naive.gelu(naive.linear(module.squeeze, z)))
    return y + naive.batch_norm(module.expand_norm, naive.linear(module.expand, z))


def _far_reference(module: OverlappingReductionAttention, x: Tensor, positions: Tensor | None) -> Tensor:
    """The reference of the attention; with positions, its queries one after the other."""
    if positions is None:
        return overlapping_reduction_attention.reference(module, x)
    z = x
    if module.reduction > 1:
        z = naive.gelu(naive.batch_norm(module.shrink_norm, naive.conv2d(module.shrink, x)))
        z = naive.batch_norm(module.factor_norm, z * module.factor.weight.flatten())
    z = (z + naive.conv2d(module.local, z)).flatten(1, 2)
    heads, table = (module.heads, x.shape[3] // module.heads), positions[0]
    if isinstance(module.position, PairPosition):
        table = table + stretched_reference(module.position.pairs, *table.shape[1:])
    keys, values = ([naive.linear(layer, token).unflatten(1, heads) for token in z.unbind(1)] for layer in (module.k, module.v))
    mixed = [
        naive.attend(naive.linear(module.q, token).unflatten(1, heads), keys, values, list(table[:, place].unbind(1))).flatten(
            1
        )
        for place, token in enumerate(x.flatten(1, 2).unbind(1))
    ]
    return torch.stack(mixed, dim=1).view(x.shape)


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
