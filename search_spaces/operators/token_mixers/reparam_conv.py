"""Depth-wise convolution trained as parallel branches, which are one convolution in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.convolution import (
    ConvNorm,
    conv_norm_reference,
    depthwise,
    depthwise_conv,
    framed,
    kernels,
    merge,
)
from nas.search_spaces.operators.squeeze import SqueezeExcite, divisible, squeeze_macs, squeeze_reference
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "reparam_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Ding et al. 2021 (RepVGG), arXiv:2101.03697, section 3.2-3.3; depth-wise: Wang et al. 2025 (LSNet), arXiv:2503.23135; "
        "official jameslahm/lsnet lsnet.py RepVGGDW and Block.se"
    ),
    settings={
        "kernel": kernels(3, 5, 7),
        "squeeze": Setting(
            (0, 16, 8, 4),
            rule=lambda v, place: 0 <= int(v) <= place.width,
            because="the channels are divided by 1 to as many as there are for the squeeze, which 0 leaves out",
            default=0,
        ),
    },
)
class ReparamConv(nn.Module):
    """S(BN(DW_kernel x) + BN(DW_1 x) + x), depth-wise convolutions without biases; S is squeeze and excitation.

    The sum is the whole block of LSNet, with squeeze 4: used with a residual `none` it is that block. In evaluation the
    branches are added up to one kernel first, so that MACs are N C kernel^2 (and 2 C C / squeeze, with C / squeeze rounded to
    a multiple of 8); training runs both branches.
    """

    def __init__(self, width: int, size: int, *, kernel: int, squeeze: int = 0) -> None:
        super().__init__()
        self.kernel = kernel
        self.large = ConvNorm(width, kernel)
        self.small = ConvNorm(width, 1)
        self.squeeze = SqueezeExcite(width, divisible(width / squeeze)) if squeeze else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        first = x.permute(0, 3, 1, 2)
        y = self.large(first) + self.small(first) + first if self.training else depthwise(first, *self._folded())
        z: Tensor = self.squeeze(y.permute(0, 2, 3, 1))
        return z

    def _folded(self) -> tuple[Tensor, Tensor]:
        """The kernel and bias of all branches together; the skip is a one in the middle."""
        weight, bias = merge([self.large, self.small], self.kernel)
        one = torch.ones(1, 1, 1, 1, dtype=weight.dtype, device=weight.device)
        return weight + framed(one, self.kernel), bias

    def as_merged(self) -> nn.Conv2d:
        """One convolution that does in evaluation what the branches do, without the squeeze."""
        return depthwise_conv(*self._folded())


def reference(module: ReparamConv, x: Tensor) -> Tensor:
    """Branch by branch, tap by tap."""
    y = conv_norm_reference(module.large, x) + conv_norm_reference(module.small, x) + x
    return squeeze_reference(module.squeeze, y) if isinstance(module.squeeze, SqueezeExcite) else y


def macs(width: int, size: int, *, kernel: int, squeeze: int = 0) -> int:
    """Multiply-adds for one image in evaluation."""
    inside = squeeze_macs(width, divisible(width / squeeze)) if squeeze else 0
    return size**2 * width * kernel**2 + inside
