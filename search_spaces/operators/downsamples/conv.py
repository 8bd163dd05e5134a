"""Downsampling by a convolution on disjoint 2x2 patches."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register("conv", Kind.DOWNSAMPLE, cite="Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, section 2.6")
class ConvDownsample(nn.Module):
    """A 2x2 convolution of stride 2."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        y: Tensor = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y


def reference(module: ConvDownsample, x: Tensor) -> Tensor:
    """Tap by tap."""
    return naive.conv2d(module.conv, x)
