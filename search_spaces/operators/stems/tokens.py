"""Patch embedding to a row of tokens behind a class token, with learned positions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Value, flag, register


def _row(height: int, width: int, settings: dict[str, Value]) -> tuple[int, int]:
    stride = int(settings["stride"])
    count = (height // stride) * (width // stride)
    return (1, count + 1) if count else (0, 0)


@register(
    "tokens",
    Kind.STEM,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 1; Touvron et al. 2021 (DeiT), arXiv:2012.12877; timm "
    "vision_transformer.py VisionTransformer._pos_embed",
    settings={"stride": parts.STRIDE, "bias": flag(True), "positions": flag(True)},
    out_map=lambda height, width, settings: _row(height, width, dict(settings)),
    sized=True,
)
class Tokens(nn.Module):
    """[token, stride x stride patches row by row] + positions, as a map of height 1.

    The class token and the first row of timm's `pos_embed` are two vectors that are added; the rest of the table has the shape
    of the map for which the stem was built, and is resized bilinearly on other maps (timm: bicubic). Parameters
    stride^2 in_channels C + C, the token's C, and (N + 1) C of the positions, N = (size / stride)^2.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(
        self, in_channels: int, width: int, size: int, *, stride: int, bias: bool = True, positions: bool = True
    ) -> None:
        super().__init__()
        side = max(size // stride, 1)
        self.conv = nn.Conv2d(in_channels, width, stride, stride, bias=bias)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.table = nn.Parameter(torch.randn(side, side, width) * 0.02) if positions else None
        self.token_position = nn.Parameter(torch.randn(width) * 0.02) if positions else None

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 1, H/stride W/stride + 1, width)."""
        maps: Tensor = self.conv(image).permute(0, 2, 3, 1)
        token: Tensor = self.token
        if self.table is not None and self.token_position is not None:
            maps, token = maps + fitted(self.table, maps.shape[1], maps.shape[2]), token + self.token_position
        return torch.cat((token.expand(maps.shape[0], 1, -1), maps.flatten(1, 2)), dim=1)[:, None]


def reference(module: Tokens, image: Tensor) -> Tensor:
    """Tap by tap, position by position."""
    token: Tensor = module.token
    maps = naive.conv2d(module.conv, image.permute(0, 2, 3, 1))
    if module.table is not None and module.token_position is not None:
        shapes = zip(module.table.shape[:2], maps.shape[1:3], strict=True)
        rows, columns = (stretch(have, want).to(maps) for have, want in shapes)
        maps = maps + torch.einsum("ih,jw,hwc->ijc", rows, columns, module.table)
        token = token + module.token_position
    tokens = [token.repeat(maps.shape[0], 1), *(maps[:, i, j] for i in range(maps.shape[1]) for j in range(maps.shape[2]))]
    return torch.stack(tokens, dim=1)[:, None]
