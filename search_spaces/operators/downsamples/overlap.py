"""Downsampling by an overlapping 3x3 convolution."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, register


@register(
    "overlap",
    Kind.DOWNSAMPLE,
    cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, section 3.2; NAT, arXiv:2204.07143, nat.py ConvDownsampler",
    settings={"bias": flag(True), "end_norm": parts.END_NORM, "eps": parts.eps_of("end_norm")},
)
class OverlapDownsample(nn.Module):
    """A 3x3 convolution of stride 2, then its own norm, if any.

    Layer norm behind it: PVTv2, CvT, CSWin, and without bias NAT. Batch norm: BiFormer, and without bias AttNet, OverLoCK and
    TransXNet. Neither, but a norm before: MetaFormer.
    """

    def __init__(self, in_width: int, width: int, *, bias: bool = True, end_norm: str = "none", eps: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, 3, 2, padding=1, bias=bias)
        self.norm = parts.own_norm(end_norm, width, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        return parts.finish(self.norm, self.conv(x.permute(0, 3, 1, 2)))


def reference(module: OverlapDownsample, x: Tensor) -> Tensor:
    """Tap by tap."""
    return parts.naive_norm(module.norm, naive.conv2d(module.conv, x))
