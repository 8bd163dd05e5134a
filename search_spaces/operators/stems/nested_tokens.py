"""Patch embedding in two steps: the pixels inside each patch, and patches made of them, in one row behind a class token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, Value, flag, register

KERNEL = 7


def _row(height: int, width: int, settings: Mapping[str, Value]) -> tuple[int, int]:
    stride = int(settings["stride"])
    count = (height // stride) * (width // stride)
    return (1, count + 1) if count else (0, 0)


@register(
    "nested_tokens",
    Kind.STEM,
    cite="Han et al. 2021 (TNT), arXiv:2103.00112, section 2.2; timm tnt.py PixelEmbed, TNT.forward_features",
    settings={
        "stride": parts.STRIDE,
        "pixels": Setting(
            (2, 4),
            rule=lambda v, place: (
                int(v) >= 1 and int(place.chosen["stride"]) % int(v) == 0 and place.width % (2 * int(v) ** 2) == 0
            ),
            because="pixels x pixels pixels divide a patch, and half of the channels",
        ),
        "apart": flag(False),
    },
    out_map=_row,
    sized=True,
)
class NestedTokens(nn.Module):
    """[patches, pixels] for each stride x stride patch: `nested_transformer` says how they lie in the channels.

    pixels = conv7x7(image) + positions inside the patch, of stride `stride / pixels`; patches = norm2(P(norm1(pixels))) +
    positions, a class token before them whose pixels are zero. With `apart`, timm's form that is not legacy, the convolution
    sees each patch by itself, zeros around it. The patches' positions are resized bilinearly on maps of another size.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1), "pixel_table": (0, 1)}

    def __init__(self, in_channels: int, width: int, size: int, *, stride: int, pixels: int, apart: bool = False) -> None:
        super().__init__()
        half, side, self.stride, self.apart = width // 2, max(size // stride, 1), stride, apart
        depth = half // pixels**2
        self.conv = nn.Conv2d(in_channels, depth, KERNEL, stride // pixels, padding=KERNEL // 2)
        self.pixel_table = nn.Parameter(torch.randn(pixels, pixels, depth) * 0.02)
        self.norm1, self.norm2 = nn.LayerNorm((pixels, pixels, depth)), nn.LayerNorm(half)
        # A convolution that sees just one patch: a smaller one's weights are its leading channels, in each pixel.
        self.project = nn.Conv2d(depth, half, pixels)
        self.token, self.token_position = (nn.Parameter(torch.randn(half) * 0.02) for _ in range(2))
        self.table = nn.Parameter(torch.randn(side, side, half) * 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 1, H/stride W/stride + 1, width)."""
        batch, rows, columns = image.shape[0], image.shape[2] // self.stride, image.shape[3] // self.stride
        pixels = self._pixels(image, rows, columns) + self.pixel_table
        weight = self.project.weight.permute(0, 2, 3, 1).flatten(1)
        patches = self.norm2(F.linear(self.norm1(pixels).flatten(3), weight, self.project.bias))
        patches = patches + fitted(self.table, rows, columns)
        found = torch.cat((patches, pixels.flatten(3)), dim=-1).flatten(1, 2)
        token = F.pad(self.token + self.token_position, (0, patches.shape[3])).expand(batch, 1, -1)
        return torch.cat((token, found), dim=1)[:, None]

    def _pixels(self, image: Tensor, rows: int, columns: int) -> Tensor:
        """(B, in_channels, H, W) -> (B, rows, columns, p, p, d)."""
        count = self.pixel_table.shape[0]
        if self.apart:
            cut = image[:, :, : rows * self.stride, : columns * self.stride].unflatten(3, (columns, self.stride))
            cut = cut.unflatten(2, (rows, self.stride)).permute(0, 2, 4, 1, 3, 5)
            found: Tensor = self.conv(cut.flatten(0, 2)).permute(0, 2, 3, 1)
            return found.unflatten(0, (-1, rows, columns))
        maps = self.conv(image)[:, :, : rows * count, : columns * count].permute(0, 2, 3, 1)
        whole: Tensor = maps.unflatten(2, (columns, count)).unflatten(1, (rows, count)).transpose(2, 3)
        return whole


def reference(module: NestedTokens, image: Tensor) -> Tensor:
    """Patch by patch."""
    rows, columns = (n // module.stride for n in image.shape[2:])
    upright = image.permute(0, 2, 3, 1)
    seen = upright if module.apart else naive.conv2d(module.conv, upright)
    step = module.stride if module.apart else module.pixel_table.shape[0]
    shapes = zip(module.table.shape[:2], (rows, columns), strict=True)
    down, across = (stretch(have, want).to(image) for have, want in shapes)
    positions = torch.einsum("ih,jw,hwc->ijc", down, across, module.table)
    first = torch.cat((module.token + module.token_position, torch.zeros_like(module.token)))
    tokens = [first.repeat(image.shape[0], 1)]
    for i in range(rows):
        for j in range(columns):
            tile = seen[:, i * step : (i + 1) * step, j * step : (j + 1) * step]
            pixels = (naive.conv2d(module.conv, tile) if module.apart else tile) + module.pixel_table
            mean, mean_square = pixels.mean((1, 2, 3), keepdim=True), pixels.square().mean((1, 2, 3), keepdim=True)
            scaled = (pixels - mean) / (mean_square - mean.square() + module.norm1.eps).sqrt()
            patch = naive.conv2d(module.project, scaled * module.norm1.weight + module.norm1.bias)[:, 0, 0]
            patch = naive.layer_norm(module.norm2, patch) + positions[i, j]
            tokens.append(torch.cat((patch, pixels.flatten(1)), dim=1))
    return torch.stack(tokens, dim=1)[:, None]
