"""Downsampling by average pooling and a linear map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register("average", Kind.DOWNSAMPLE, cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, official nextvit.py PatchEmbed")
class AverageDownsample(nn.Module):
    """The mean of each 2x2 patch, then a linear map of the channels."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        y: Tensor = self.linear(F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
        return y


def reference(module: AverageDownsample, x: Tensor) -> Tensor:
    """The four pixels of each patch, then the linear map; a last odd row or column is dropped."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    corners = [x[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]
    return naive.linear(module.linear, (corners[0] + corners[1] + corners[2] + corners[3]) / 4)
