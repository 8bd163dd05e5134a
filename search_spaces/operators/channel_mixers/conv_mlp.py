"""The multi-layer perceptron with a depth-wise convolution on its hidden layer."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, register


@register(
    "conv_mlp",
    Kind.CHANNEL_MIXER,
    family="mlp",
    cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, convolutional feed-forward; official pvt_v2.py Mlp and DWConv",
    settings={"expansion": EXPANSION},
)
class ConvMLP(nn.Module):
    """W2 gelu(DW(W1 x)), with DW a depth-wise 3x3 convolution with zeros outside the map.

    With hidden width E = expansion * C: parameters 2 C E + 11 E + C, MACs H W (2 C E + 9 E).
    """

    def __init__(self, width: int, size: int, *, expansion: int) -> None:
        super().__init__()
        hidden = expansion * width
        self.expand = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        hidden = self.conv(self.expand(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.reduce(self.act(hidden))
        return out


def reference(module: ConvMLP, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    return naive.linear(module.reduce, naive.gelu(naive.conv2d(module.conv, naive.linear(module.expand, x))))
