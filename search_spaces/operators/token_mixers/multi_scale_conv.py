"""Depth-wise convolutions of several kernel sizes side by side on groups of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import ladder, reaches
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, flag, register


def _fits(value: Value, place: Place) -> bool:
    sizes = ladder(value)
    return 0 < len(sizes) <= place.width and all(reaches(kernel, 1, place) for kernel in sizes)


@register(
    "multi_scale_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Tan and Le 2019 (MixConv), arXiv:1907.09595, section 3.1; timm mixed_conv2d.py MixedConv2d",
    settings={
        "kernels": Setting(
            ("1-3", "3-5", "3-5-7", "1-3-5-7", "3-5-7-9"),
            rule=_fits,
            because="it lists odd kernels, one a group of channels, whose outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "project": flag(True),
    },
)
class MultiScaleConv(nn.Module):
    """project(the groups side by side), group g of the channels convolved depth-wise with the g-th kernel.

    Groups have C // n channels and the first one what is left over, as in timm. `project` is a pointwise layer, which MixConv
    leaves to the block around it. With N = H W: MACs N sum_g C_g kernel_g^2, and N C^2 with `project`.
    """

    def __init__(self, width: int, size: int, *, kernels: str, project: bool = True) -> None:
        super().__init__()
        every = [int(kernel) for kernel in kernels.split("-")]
        self.widths = group_widths(width, len(every))
        self.convs = nn.ModuleList(
            nn.Conv2d(part, part, kernel, padding=kernel // 2, groups=part)
            for part, kernel in zip(self.widths, every, strict=True)
        )
        self.project = nn.Linear(width, width) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        parts = x.permute(0, 3, 1, 2).split(self.widths, dim=1)
        mixed = torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)
        y: Tensor = self.project(mixed.permute(0, 2, 3, 1))
        return y


def group_widths(width: int, groups: int) -> list[int]:
    """Channels of each group."""
    rest = [width // groups] * (groups - 1)
    return [width - sum(rest), *rest]


def reference(module: MultiScaleConv, x: Tensor) -> Tensor:
    """Group by group, tap by tap."""
    mixed, start = [], 0
    for conv in module.convs:
        assert isinstance(conv, nn.Conv2d)
        mixed.append(naive.conv2d(conv, x[..., start : start + conv.in_channels]))
        start += conv.in_channels
    y = torch.cat(mixed, dim=-1)
    return naive.linear(module.project, y) if isinstance(module.project, nn.Linear) else y


def macs(width: int, size: int, *, kernels: str, project: bool = True) -> int:
    """Multiply-adds for one image."""
    sizes = ladder(kernels)
    mixing = sum(part * kernel**2 for part, kernel in zip(group_widths(width, len(sizes)), sizes, strict=True))
    return size**2 * (mixing + project * width**2)
