"""Downsampling by a bottleneck block of residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.bottlenecks import ACTIVATION, RATIO, BottleneckBlock, bottleneck_reference
from nas.search_spaces.operators.convolution import normed
from nas.search_spaces.operators.downsamples.position_table import STRIDE
from nas.search_spaces.registry import Kind, register


@register(
    "bottleneck",
    Kind.DOWNSAMPLE,
    cite="He et al. 2016, arXiv:1512.03385, figure 5; the stride in the 3x3 convolution as in timm byobnet.py BottleneckBlock",
    settings={"ratio": RATIO, "activation": ACTIVATION, "stride": STRIDE},
    out_map=lambda height, width, settings: (-(-height // int(settings["stride"])), -(-width // int(settings["stride"]))),
)
class BottleneckDownsample(BottleneckBlock):
    """act(shortcut(x) + BN(P2 act(BN(conv(act(BN(P1 x))))))): conv dense 3x3 with the stride, on width / ratio channels.

    The shortcut is a pointwise convolution with the stride and a batch norm. With stride 1 (the first stage of residual
    networks) the map stays. No biases.
    """

    def __init__(self, in_width: int, width: int, *, ratio: int, activation: str = "relu", stride: int = 2) -> None:
        super().__init__(in_width, width, ratio, activation, stride)
        self.conv = nn.Conv2d(width // ratio, width // ratio, 3, stride, padding=1, bias=False)

    def inner(self, y: Tensor) -> Tensor:
        """The convolution: (B, C, H, W) -> (B, C, H', W')."""
        return normed(self.conv, self.inner_norm, y)


def reference(module: BottleneckDownsample, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return bottleneck_reference(module, x, lambda y: naive.conv2d(module.conv, y))
