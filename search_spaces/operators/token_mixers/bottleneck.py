"""The bottleneck block of residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.bottlenecks import ACTIVATION, RATIO, BottleneckBlock, bottleneck_reference
from nas.search_spaces.operators.convolution import kernels, normed
from nas.search_spaces.registry import Group, Kind, register


@register(
    "bottleneck",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="He et al. 2016, arXiv:1512.03385, figure 5; timm byobnet.py BottleneckBlock",
    settings={"kernel": kernels(3, 5, 7), "ratio": RATIO, "act": ACTIVATION},
)
class Bottleneck(BottleneckBlock):
    """act(x + BN(P2 act(BN(conv(act(BN(P1 x))))))): conv dense, kernel x kernel, on width / ratio channels; no biases.

    It holds its own way around itself, with the activation behind the sum: as published it is used without a norm and with the
    residual `none`. With h inner channels: MACs N (2 C h + kernel^2 h^2).
    """

    def __init__(self, width: int, size: int, *, kernel: int, ratio: int, act: str = "relu") -> None:
        super().__init__(width, width, ratio, act)
        self.conv = nn.Conv2d(width // ratio, width // ratio, kernel, padding=kernel // 2, bias=False)

    def inner(self, y: Tensor) -> Tensor:
        """The convolution: (B, C, H, W) -> (B, C, H, W)."""
        return normed(self.conv, self.inner_norm, y)


def reference(module: Bottleneck, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return bottleneck_reference(module, x, lambda y: naive.conv2d(module.conv, y))


def macs(width: int, size: int, *, kernel: int, ratio: int, act: str = "relu") -> int:
    """Multiply-adds for one image."""
    hidden = width // ratio
    return size**2 * hidden * (2 * width + kernel**2 * hidden)
