"""Downsampling by average pooling and a linear map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, register


@register(
    "average",
    Kind.DOWNSAMPLE,
    cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, official nextvit.py PatchEmbed",
    settings={"bias": flag(True), "end_norm": parts.END_NORM, "eps": parts.eps_of("end_norm")},
)
class AverageDownsample(nn.Module):
    """The mean of each 2x2 patch, then a linear map of the channels and its own norm, if any.

    Next-ViT has no bias and a batch norm. A last odd row or column is dropped; the official code averages what is there.
    """

    def __init__(self, in_width: int, width: int, *, bias: bool = True, end_norm: str = "none", eps: float = 1e-5) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width, bias=bias)
        self.norm = parts.own_norm(end_norm, width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        y: Tensor = self.linear(F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
        return parts.finish(self.norm, y.permute(0, 3, 1, 2))


def reference(module: AverageDownsample, x: Tensor) -> Tensor:
    """The four pixels of each patch, then the linear map; a last odd row or column is dropped."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    corners = [x[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]
    means = (corners[0] + corners[1] + corners[2] + corners[3]) / 4
    return parts.naive_norm(module.norm, naive.linear(module.linear, means))
