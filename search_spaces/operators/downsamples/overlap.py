"""Downsampling by an overlapping 3x3 convolution."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register("overlap", Kind.DOWNSAMPLE, cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, section 3.2")
class OverlapDownsample(nn.Module):
    """A 3x3 convolution of stride 2."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        y: Tensor = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y


def reference(module: OverlapDownsample, x: Tensor) -> Tensor:
    """Tap by tap."""
    return naive.conv2d(module.conv, x)
