"""Downsampling by a strided depth-wise convolution and a pointwise one."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register(
    "depthwise",
    Kind.DOWNSAMPLE,
    cite="Wang et al. 2025 (LSNet), arXiv:2503.23135, official lsnet.py LSNet",
    out_map=lambda height, width, settings: (-(-height // 2), -(-width // 2)),
)
class DepthwiseDownsample(nn.Module):
    """BN(P BN(DW x)): DW a depth-wise 3x3 convolution of stride 2, P a pointwise one to the new width, neither with bias."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, in_width, 3, 2, padding=1, groups=in_width, bias=False)
        self.conv_norm = nn.BatchNorm2d(in_width)
        self.project = nn.Conv2d(in_width, width, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        y: Tensor = self.project_norm(self.project(self.conv_norm(self.conv(x.permute(0, 3, 1, 2)))))
        return y.permute(0, 2, 3, 1)


def reference(module: DepthwiseDownsample, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = naive.batch_norm(module.conv_norm, naive.conv2d(module.conv, x))
    return naive.batch_norm(module.project_norm, naive.conv2d(module.project, x))
