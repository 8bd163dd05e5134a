"""Downsampling by a grouped convolution with a large kernel and a pointwise one, each trained as parallel branches."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.reparam import ReparamBranches, branches_reference
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "reparam_conv",
    Kind.DOWNSAMPLE,
    cite="Vasu et al. 2023 (FastViT), arXiv:2303.14189, section 3.3; timm fastvit.py PatchEmbed, ReparamLargeKernelConv",
    settings={
        "kernel": Setting((5, 7), rule=lambda v, place: v in (5, 7, 9, 11), because="the larger kernel is 5, 7, 9 or 11"),
        "activation": one_of("gelu", "relu", "silu", default="gelu"),
    },
)
class ReparamDownsample(nn.Module):
    """act(B2 B1 x): B1 kernel x kernel of stride 2 with a 3x3 branch beside, B2 pointwise with a batch norm beside.

    B1 has as many groups as divide both widths: where the new width is a multiple of the old one it is depth-wise. In
    evaluation each is one convolution.
    """

    def __init__(self, in_width: int, width: int, *, kernel: int, activation: str = "gelu") -> None:
        super().__init__()
        self.large = ReparamBranches(in_width, width, kernel, stride=2, groups=math.gcd(in_width, width), small=3)
        self.point = ReparamBranches(width, width, 1)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        y: Tensor = self.act(self.point(self.large(x.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
        return y


def reference(module: ReparamDownsample, x: Tensor) -> Tensor:
    """Layer by layer, branch by branch, tap by tap."""
    return naive_activation(module.act, branches_reference(module.point, branches_reference(module.large, x)))
