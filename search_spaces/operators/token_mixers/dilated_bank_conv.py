"""Parallel depth-wise convolutions of one kernel at several dilation rates."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import ladder, reaches
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, register


def _fits(value: Value, place: Place) -> bool:
    rates, kernel = ladder(value), int(place.chosen["kernel"])
    return len(set(rates)) == len(rates) > 0 and all(rate >= 1 and reaches(kernel, rate, place) for rate in rates)


@register(
    "dilated_bank_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Chen et al. 2018 (DeepLab), arXiv:1606.00915, section 3.2, figure 4 (ASPP); "
        "depth-wise branches: Chen et al. 2018, arXiv:1802.02611, section 3.1"
    ),
    settings={
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) >= 3 and reaches(int(v), 1, place),
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "rates": Setting(
            ("1", "1-2", "1-2-3", "1-3-6", "1-2-4-8", "1-6-12-18"),
            rule=_fits,
            because="it lists distinct rates, the outermost taps of each reach a pixel: kernel // 2 * rate < map size",
        ),
    },
)
class DilatedBankConv(nn.Module):
    """project(sum over rates r of the depth-wise convolution with dilation r), zeros outside the map.

    The branches are summed, as in DeepLab's ASPP-L and ASPP-S; the depth-wise form, with a pointwise layer for all branches
    after the sum, is that of this project, for which there is no official code: the published bank mixes channels in every
    branch and stands behind a backbone, not in its blocks. With n rates: MACs N (n kernel^2 C + C^2).
    """

    def __init__(self, width: int, size: int, *, kernel: int, rates: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2 * rate, dilation=rate, groups=width, bias=False)
            for rate in map(int, rates.split("-"))
        )
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        total = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            total = total + conv(x)
        y: Tensor = self.project(total.permute(0, 2, 3, 1))
        return y


def reference(module: DilatedBankConv, x: Tensor) -> Tensor:
    """Rate by rate, tap by tap."""
    branches = [naive.conv2d(cast(nn.Conv2d, conv), x) for conv in module.convs]
    return naive.linear(module.project, sum(branches[1:], branches[0]))


def macs(width: int, size: int, *, kernel: int, rates: str) -> int:
    """Multiply-adds for one image."""
    return size**2 * width * (len(ladder(rates)) * kernel**2 + width)
