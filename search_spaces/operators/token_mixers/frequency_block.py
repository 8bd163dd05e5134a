"""Frequency filters in turn with inverted bottlenecks, fused with the map that they started from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import expansions, normed
from nas.search_spaces.operators.norms import group_norm
from nas.search_spaces.operators.norms.group_norm import GroupNorm
from nas.search_spaces.operators.token_mixers import frequency_filter, mbconv
from nas.search_spaces.operators.token_mixers.fourier_operator import BLOCKS
from nas.search_spaces.operators.token_mixers.frequency_filter import FrequencyFilter
from nas.search_spaces.operators.token_mixers.mbconv import MBConv
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register

KERNEL = 3


@register(
    "frequency_block",
    Kind.TOKEN_MIXER,
    group=Group.FREQUENCY,
    cite="Huang et al. 2023 (AFFNet), arXiv:2307.14008, section 3.3; official Adaptive Frequency Filters "
    "affnet/modules/aff_block.py AFFBlock, Block",
    settings={
        "layers": Setting((1, 2), rule=lambda v, place: 1 <= int(v) <= 32, because="there are 1 to 32 layers"),
        "blocks": BLOCKS,
        "ratio": expansions(2, 4, default=2),
        "act": one_of("relu", "silu", "gelu", default="relu"),
    },
)
class FrequencyBlock(nn.Module):
    """act(BN(F [x, BN(P norm(layers(x)))])), F and P pointwise convolutions without bias to the map's own channels.

    A layer is y + filter(norm2(z + MBConv(z))) with z = norm1(y): a 3x3 inverted bottleneck `ratio` times as wide, then a
    `frequency_filter` in so many `blocks` of channels. As in the code one residual goes around both (`double_skip` is
    off). Norms are over all channels and pixels of a map (GroupNorm of one group), the default of AFFBlock.

    It replaces the stream: as published it is used without a norm and with the residual `none`. MACs 3 H W C^2 and for each
    layer those of an `mbconv` and a `frequency_filter`.
    """

    def __init__(self, width: int, size: int, *, layers: int, blocks: int, ratio: int = 2, act: str = "relu") -> None:
        super().__init__()
        self.layers = nn.ModuleList(FrequencyLayer(width, size, blocks, ratio, act) for _ in range(layers))
        self.norm = GroupNorm(width)
        self.leave, self.leave_norm = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.fuse, self.fuse_norm = nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = x
        for layer in self.layers:
            y = layer(y)
        y = normed(self.leave, self.leave_norm, self.norm(y).permute(0, 3, 1, 2))
        both = torch.cat((x.permute(0, 3, 1, 2), y), dim=1)
        out: Tensor = self.act(normed(self.fuse, self.fuse_norm, both)).permute(0, 2, 3, 1)
        return out


class FrequencyLayer(nn.Module):
    """y + filter(norm2(z + MBConv(z))) with z = norm1(y)."""

    def __init__(self, width: int, size: int, blocks: int, ratio: int, act: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(width), GroupNorm(width)
        self.mbconv = MBConv(width, size, kernel=KERNEL, ratio=ratio, act=act)
        self.filter = FrequencyFilter(width, size, blocks=blocks)

    def forward(self, y: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        z = self.norm1(y)
        mixed: Tensor = y + self.filter(self.norm2(z + self.mbconv(z)))
        return mixed


def macs(width: int, size: int, *, layers: int, blocks: int, ratio: int = 2, act: str = "relu") -> int:
    """Multiply-adds for one image."""
    convolved = mbconv.macs(width, size, kernel=KERNEL, ratio=ratio)
    return layers * (convolved + frequency_filter.macs(width, size, blocks=blocks)) + 3 * size**2 * width**2


def reference(module: FrequencyBlock, x: Tensor) -> Tensor:
    """Layer by layer, tap by tap and frequency by frequency."""
    y = x
    for layer in module.layers:
        assert isinstance(layer, FrequencyLayer)
        z = group_norm.reference(layer.norm1, y)
        z = group_norm.reference(layer.norm2, z + mbconv.reference(layer.mbconv, z))
        y = y + frequency_filter.reference(layer.filter, z)
    y = naive.batch_norm(module.leave_norm, naive.conv2d(module.leave, group_norm.reference(module.norm, y)))
    fused = naive.conv2d(module.fuse, torch.cat((x, y), dim=-1))
    return naive_activation(module.act, naive.batch_norm(module.fuse_norm, fused))
