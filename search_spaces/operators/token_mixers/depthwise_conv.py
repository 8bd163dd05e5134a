"""Depth-wise convolution with a searchable kernel and dilation."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "depthwise_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, section 2.5; dilation: Chen et al. 2018, arXiv:1606.00915, eq. 1",
    settings={
        "kernel": Setting(
            (3, 5, 7, 9, 11),
            rule=lambda v, place: int(v) % 2 == 1 and 0 <= int(v) // 2 < place.size,
            because="a kernel is odd and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "dilation": Setting(
            (1, 2, 3),
            rule=lambda v, place: v == 1 or (int(v) >= 1 and int(place.chosen["kernel"]) // 2 * int(v) < place.size),
            because="the outermost taps reach a pixel: kernel // 2 * dilation < map size",
        ),
        "bias": flag(True),
    },
)
class DepthwiseConv(nn.Module):
    """y[i, j, c] = sum_uv weight[c, u, v] x[i + dilation u, j + dilation v, c] + bias[c], zeros outside the map.

    MACs: H W C kernel^2. In a supernet kernels share their centre; dilation costs no parameters. With kernel 3, a plain
    residual and no norm it is the conditional position encoding of Chu et al. 2021, arXiv:2102.10882.
    """

    def __init__(self, width: int, size: int, *, kernel: int, dilation: int, bias: bool = True) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y


def reference(module: DepthwiseConv, x: Tensor) -> Tensor:
    """Tap by tap."""
    return naive.conv2d(module.conv, x)


def macs(width: int, size: int, *, kernel: int, dilation: int, bias: bool = True) -> int:
    """Multiply-adds for one image."""
    return size**2 * width * kernel**2
