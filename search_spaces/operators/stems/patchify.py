"""Patch embedding: a convolution whose kernel is its stride."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, register


@register(
    "patchify",
    Kind.STEM,
    cite="Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 1; Liu et al. 2022, arXiv:2201.03545, section 2.2",
    settings={"stride": parts.STRIDE, "bias": flag(True), "end_norm": parts.END_NORM, "eps": parts.eps_of("end_norm")},
)
class Patchify(nn.Module):
    """Each stride x stride patch becomes one token, by one linear map, and a norm if the stage's is not the right one.

    Parameters stride^2 in_channels C + C, and 2 C of the norm; rows and columns beyond the last whole patch are dropped.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, bias: bool = True, end_norm: str = "none", eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, stride, stride, bias=bias)
        self.norm = parts.own_norm(end_norm, width, eps)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        return parts.finish(self.norm, self.conv(image))


def reference(module: Patchify, image: Tensor) -> Tensor:
    """Tap by tap."""
    return parts.naive_norm(module.norm, naive.conv2d(module.conv, image.permute(0, 2, 3, 1)))
