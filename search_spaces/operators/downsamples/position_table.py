"""A table of learned positions, added to the map at the start of a stage."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, register

STRIDE = Setting((2, 1), lambda v, place: v in (1, 2), "the map is halved or kept", 2)


def fitted(table: Tensor, height: int, width: int) -> Tensor:
    """A table (h, w, C) bilinearly brought to a map of another size."""
    if table.shape[:2] == (height, width):
        return table
    resized = F.interpolate(table.permute(2, 0, 1)[None], size=(height, width), mode="bilinear")
    return resized[0].permute(1, 2, 0)


@register(
    "position_table",
    Kind.DOWNSAMPLE,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 1; Yuan et al. 2021 (VOLO), arXiv:2106.13112, official volo.py "
    "Downsample and VOLO.forward_tokens",
    settings={"stride": STRIDE},
    out_map=lambda height, width, settings: (height // int(settings["stride"]), width // int(settings["stride"])),
    sized=True,
)
class PositionTable(nn.Module):
    """A convolution on disjoint 2x2 patches, then a learned vector is added at each position.

    With stride 1 there is no convolution, but a linear map where the width changes. On maps of another size than the table
    it is resized bilinearly.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, in_width: int, width: int, size: int, *, stride: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, stride, stride) if stride > 1 or in_width != width else None
        self.table = nn.Parameter(torch.randn(size // stride, size // stride, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H / stride, W / stride, width)."""
        y = x if self.conv is None else self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y + fitted(self.table, y.shape[1], y.shape[2])


def reference(module: PositionTable, x: Tensor) -> Tensor:
    """Tap by tap, position by position."""
    y = x if module.conv is None else naive.conv2d(module.conv, x)
    rows, columns = (stretch(have, want).to(x) for have, want in zip(module.table.shape[:2], y.shape[1:3], strict=True))
    return y + torch.einsum("ih,jw,hwc->ijc", rows, columns, module.table)


def stretch(length: int, wanted: int) -> Tensor:
    """The linear map (wanted, length) that resizes a row of samples by linear interpolation, half pixels at the ends."""
    weights = torch.zeros(wanted, length, dtype=torch.float64)
    for i in range(wanted):
        at = max((i + 0.5) * length / wanted - 0.5, 0.0)
        low = int(at)
        weights[i, low] += 1 - (at - low)
        weights[i, min(low + 1, length - 1)] += at - low
    return weights
