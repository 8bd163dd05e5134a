"""The inverted bottleneck: a depth-wise convolution between two pointwise ones."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "mbconv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381, table 1; SiLU: Tan and Le 2019, arXiv:1905.11946, section 5.2",
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "ratio": Setting((2, 3, 4), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide"),
    },
)
class MBConv(nn.Module):
    """BN(P2 silu(BN(DW silu(BN(P1 x))))) with P1 to ratio * C channels, DW kernel x kernel depth-wise, P2 back to C.

    Convolutions before a norm have no bias. Squeeze-and-excitation is left out, as in TinyViT. The residual is the block's.
    With hidden width E = ratio * C: parameters 2 C E + E kernel^2 + 4 E + 2 C, MACs H W (2 C E + E kernel^2).
    """

    def __init__(self, width: int, size: int, *, kernel: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * width
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.reduce = nn.Conv2d(hidden, width, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(width)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        x = self.act(self.expand_norm(self.expand(x)))
        x = self.act(self.depthwise_norm(self.depthwise(x)))
        x = self.reduce_norm(self.reduce(x))
        return x.permute(0, 2, 3, 1)


def reference(module: MBConv, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = naive.batch_norm(module.expand_norm, naive.conv2d(module.expand, x))
    x = naive.batch_norm(module.depthwise_norm, naive.conv2d(module.depthwise, x / (1 + (-x).exp())))
    return naive.batch_norm(module.reduce_norm, naive.conv2d(module.reduce, x / (1 + (-x).exp())))
