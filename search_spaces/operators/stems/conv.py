"""Convolutional stem: 3x3 convolutions of stride 2 instead of one large patch."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, register

STRIDE = Setting((2, 4), rule=lambda v, place: v in (1, 2, 4, 8, 16), because="a stem divides the map by 1, 2, 4, 8 or 16")


@register("conv", Kind.STEM, cite="Xiao et al. 2021, arXiv:2106.14881, section 3", settings={"stride": STRIDE})
class ConvStem(nn.Module):
    """A 3x3 convolution to half the width, GELU, then 3x3 convolutions that reach the stride; no inner norm."""

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, half, 3, 2 if stride > 1 else 1, padding=1), nn.GELU()]
        left = max(stride // 2, 1)
        while left > 2:
            layers += [nn.Conv2d(half, half, 3, 2, padding=1), nn.GELU()]
            left //= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(half, width, 3, left, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        y: Tensor = self.layers(image).permute(0, 2, 3, 1)
        return y


def reference(module: ConvStem, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = image.permute(0, 2, 3, 1)
    for layer in module.layers:
        x = naive.conv2d(layer, x) if isinstance(layer, nn.Conv2d) else naive.gelu(x)
    return x
