"""Overlapping patch embedding: one convolution whose kernel is almost twice its stride."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, one_of, register


@register(
    "overlap",
    Kind.STEM,
    cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, section 3.2; tight padding: PoolFormer, arXiv:2111.11418; CvT, "
    "arXiv:2103.15808, official cls_cvt.py ConvEmbed",
    settings={
        "stride": parts.STRIDE,
        "padding": one_of("full", "tight", default="full"),
        "bias": flag(True),
        "end_norm": parts.END_NORM,
        "eps": parts.eps_of("end_norm"),
    },
)
class Overlap(nn.Module):
    """One convolution of kernel 2 stride - 1 (at least 3): 3x3 at stride 2, 7x7 at stride 4; then its own norm, if any.

    `full` padding is kernel // 2, as much as keeps the first output over the first pixel (PVTv2, TransXNet); `tight` is half of
    what the kernel overlaps, 2 instead of 3 for 7x7 at stride 4 (CvT, PoolFormer, CAFormer).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        padding: str = "full",
        bias: bool = True,
        end_norm: str = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        kernel = max(3, 2 * stride - 1)
        around = kernel // 2 if padding == "full" else (kernel - stride + 1) // 2
        self.conv = nn.Conv2d(in_channels, width, kernel, stride, padding=around, bias=bias)
        self.norm = parts.own_norm(end_norm, width, eps)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        return parts.finish(self.norm, self.conv(image))


def reference(module: Overlap, image: Tensor) -> Tensor:
    """Tap by tap."""
    return parts.naive_norm(module.norm, naive.conv2d(module.conv, image.permute(0, 2, 3, 1)))
