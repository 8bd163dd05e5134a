"""Downsampling by average pooling and a linear map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.registry import Kind, register


@register("average", Kind.DOWNSAMPLE, cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, official nextvit.py PatchEmbed")
class AverageDownsample(nn.Module):
    """The mean of each 2x2 patch, then a linear map of the channels."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        return self.linear(F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
