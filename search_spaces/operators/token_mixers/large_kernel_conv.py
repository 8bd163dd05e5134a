"""Large-kernel depth-wise convolution, trained with parallel smaller dilated ones that merge into it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import (
    ConvNorm,
    conv_norm_reference,
    depthwise,
    depthwise_conv,
    merge,
    reaches,
)
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

BRANCHES: dict[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""Kernel and dilation of the branches beside each large kernel, from the official code."""

KERNEL = Setting(
    (5, 7, 9, 11, 13, 15, 17),
    rule=lambda v, place: int(v) in BRANCHES and reaches(int(v), 1, place),
    because="a kernel is odd, from 5 to 19, and its outermost taps reach a pixel: kernel // 2 < map size",
)


@register(
    "large_kernel_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Ding et al. 2024 (UniRepLKNet), arXiv:2311.15599, dilated reparam block; "
        "official LMMMEng/OverLoCK overlock.py DilatedReparamBlock"
    ),
    settings={"kernel": KERNEL, "merged": flag(False)},
)
class LargeKernelConv(nn.Module):
    """BN(DW_kernel x) + sum of BN(DW_k with dilation r) over the `BRANCHES` of the kernel, without biases.

    In evaluation the branches are added up to one kernel first, so that MACs are N C kernel^2; training runs all of them.
    With `merged` there is nothing but that one convolution, with a bias: the form that networks are published in. In a
    supernet kernels share their centre, and branches of equal kernel and dilation are the same.
    """

    def __init__(self, width: int, size: int, *, kernel: int, merged: bool = False) -> None:
        super().__init__()
        self.kernel = kernel
        if merged:
            self.conv: nn.Module = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
            self.branches = nn.ModuleDict()
        else:
            self.conv = ConvNorm(width, kernel)
            self.branches = nn.ModuleDict({f"k{k}_d{r}": ConvNorm(width, k, r) for k, r in BRANCHES[kernel]})

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        if self.training or not self.branches:
            y = self.conv(x)
            for branch in self.branches.values():
                y = y + branch(x)
        else:
            y = depthwise(x, *self._folded())
        return y.permute(0, 2, 3, 1)

    def _folded(self) -> tuple[Tensor, Tensor]:
        """The kernel and bias of all branches together."""
        return merge([cast(ConvNorm, part) for part in (self.conv, *self.branches.values())], self.kernel)

    def as_merged(self) -> nn.Conv2d:
        """One convolution that does in evaluation what the branches do: the weights of the `merged` form."""
        return self.conv if isinstance(self.conv, nn.Conv2d) else depthwise_conv(*self._folded())


def reference(module: LargeKernelConv, x: Tensor) -> Tensor:
    """Branch by branch, tap by tap."""
    if isinstance(module.conv, nn.Conv2d):
        return naive.conv2d(module.conv, x)
    total = conv_norm_reference(cast(ConvNorm, module.conv), x)
    for branch in module.branches.values():
        total = total + conv_norm_reference(cast(ConvNorm, branch), x)
    return total


def macs(width: int, size: int, *, kernel: int, merged: bool = False) -> int:
    """Multiply-adds for one image in evaluation."""
    return size**2 * width * kernel**2
