"""Downsampling by a convolution on disjoint 2x2 patches."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, one_of, register


@register(
    "conv",
    Kind.DOWNSAMPLE,
    cite="Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, section 2.6; SpaRTAN, arXiv:2507.10999, spartan.py SpaRTAN",
    settings={
        "bias": flag(True),
        "end_norm": parts.END_NORM,
        "eps": parts.eps_of("end_norm"),
        "activation": one_of("none", "silu", "gelu", "relu", default="none"),
    },
)
class ConvDownsample(nn.Module):
    """A 2x2 convolution of stride 2, then its own norm and activation, if any (SpaRTAN: no bias, batch norm, SiLU)."""

    def __init__(
        self,
        in_width: int,
        width: int,
        *,
        bias: bool = True,
        end_norm: str = "none",
        eps: float = 1e-5,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, 2, 2, bias=bias)
        self.norm = parts.own_norm(end_norm, width, eps)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width)."""
        y: Tensor = self.act(parts.finish(self.norm, self.conv(x.permute(0, 3, 1, 2))))
        return y


def reference(module: ConvDownsample, x: Tensor) -> Tensor:
    """Tap by tap."""
    return naive_activation(module.act, parts.naive_norm(module.norm, naive.conv2d(module.conv, x)))
