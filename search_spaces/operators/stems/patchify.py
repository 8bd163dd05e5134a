"""Patch embedding: a convolution whose kernel is its stride."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, register

STRIDE = Setting((2, 4), rule=lambda v, place: v in (1, 2, 4, 8, 16), because="a stem divides the map by 1, 2, 4, 8 or 16")


@register(
    "patchify",
    Kind.STEM,
    cite="Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 1; Liu et al. 2022, arXiv:2201.03545, section 2.2",
    settings={"stride": STRIDE},
)
class Patchify(nn.Module):
    """Each stride x stride patch becomes one token, by one linear map."""

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, stride, stride)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        y: Tensor = self.conv(image).permute(0, 2, 3, 1)
        return y


def reference(module: Patchify, image: Tensor) -> Tensor:
    """Tap by tap."""
    return naive.conv2d(module.conv, image.permute(0, 2, 3, 1))
