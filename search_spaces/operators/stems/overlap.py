"""Overlapping patch embedding: one convolution whose kernel is almost twice its stride."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems.patchify import STRIDE
from nas.search_spaces.registry import Kind, register


@register("overlap", Kind.STEM, cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, section 3.2", settings={"stride": STRIDE})
class Overlap(nn.Module):
    """One convolution of kernel 2 stride - 1 (at least 3): 3x3 at stride 2, 7x7 at stride 4."""

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        kernel = max(3, 2 * stride - 1)
        self.conv = nn.Conv2d(in_channels, width, kernel, stride, padding=kernel // 2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        y: Tensor = self.conv(image).permute(0, 2, 3, 1)
        return y


def reference(module: Overlap, image: Tensor) -> Tensor:
    """Tap by tap."""
    return naive.conv2d(module.conv, image.permute(0, 2, 3, 1))
