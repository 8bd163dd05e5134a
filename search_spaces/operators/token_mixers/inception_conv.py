"""Inception depth-wise convolution: a small square, two long bands, and channels left as they are."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.convolution import expansions, kernels
from nas.search_spaces.operators.tail import Tail, tail_macs, tail_reference
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "inception_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Yu et al. 2024 (InceptionNeXt), arXiv:2303.16900, algorithm 1; timm inception_next.py InceptionDWConv2d",
    settings={
        "band": kernels(5, 7, 9, 11),
        "divisor": Setting(
            (8, 4),
            rule=lambda v, place: 3 <= int(v) <= place.width,
            because="each of three branches has C // divisor channels, at least one: 3 <= divisor <= C",
        ),
        "square": kernels(3, 5, default=3),
        "expansion": expansions(0, 2, 3, 4, default=0),
    },
)
class InceptionConv(nn.Module):
    """[x_0, square(x_1), row(x_2), column(x_3)]: depth-wise square x square, 1 x band and band x 1 convolutions with biases.

    x_1, x_2 and x_3 are the last 3 (C // divisor) channels. With `expansion` a batch norm and an MLP follow inside the same
    residual, as in the published MetaNeXt block, which needs no norm before and no channel mixer after it. InceptionNeXt has
    divisor 8, band 11 and square 3. MACs N (C // divisor (square^2 + 2 band) + 2 e C^2) with e the expansion.
    """

    def __init__(self, width: int, size: int, *, band: int, divisor: int, square: int = 3, expansion: int = 0) -> None:
        super().__init__()
        part = width // divisor
        self.widths = [width - 3 * part, part, part, part]
        self.square = nn.Conv2d(part, part, square, padding=square // 2, groups=part)
        self.row = nn.Conv2d(part, part, (1, band), padding=(0, band // 2), groups=part)
        self.column = nn.Conv2d(part, part, (band, 1), padding=(band // 2, 0), groups=part)
        self.tail = Tail(width, expansion, batch=True) if expansion else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        same, *parts = x.split(self.widths, dim=3)
        branches = zip((self.square, self.row, self.column), parts, strict=True)
        # Contiguous: a convolution would bring a part of the channels into the other layout.
        mixed = [conv(part.contiguous().permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for conv, part in branches]
        y: Tensor = self.tail(torch.cat((same, *mixed), dim=3))
        return y


def reference(module: InceptionConv, x: Tensor) -> Tensor:
    """Branch by branch, tap by tap."""
    same, *parts = x.split(module.widths, dim=-1)
    branches = [_taps(conv, part) for conv, part in zip((module.square, module.row, module.column), parts, strict=True)]
    mixed = torch.cat((same, *branches), dim=-1)
    return tail_reference(module.tail, mixed) if isinstance(module.tail, Tail) else mixed


def _taps(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A depth-wise convolution with any odd kernel, each pixel the sum of the taps that lie on the map."""
    _, height, width, _ = x.shape
    rows, columns = conv.kernel_size
    lines = []
    for i in range(height):
        pixels = []
        for j in range(width):
            total = cast(Tensor, conv.bias).expand(x.shape[0], -1)
            for u in range(rows):
                for v in range(columns):
                    above, beside = i + u - rows // 2, j + v - columns // 2
                    if 0 <= above < height and 0 <= beside < width:
                        total = total + conv.weight[:, 0, u, v] * x[:, above, beside]
            pixels.append(total)
        lines.append(torch.stack(pixels, dim=1))
    return torch.stack(lines, dim=1)


def macs(width: int, size: int, *, band: int, divisor: int, square: int = 3, expansion: int = 0) -> int:
    """Multiply-adds for one image."""
    return size**2 * (width // divisor) * (square**2 + 2 * band) + tail_macs(width, size, expansion)
