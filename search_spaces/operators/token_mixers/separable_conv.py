"""Inverted separable convolution: wide pointwise layer, activation, depth-wise convolution, pointwise layer."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import expansions, kernels
from nas.search_spaces.registry import Group, Kind, flag, one_of, register


@register(
    "separable_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Yu et al. 2022 (ConvFormer), arXiv:2210.13452, section 2; timm metaformer.py SepConv",
    settings={
        "kernel": kernels(3, 5, 7, 9),
        "expansion": expansions(1, 2, 3),
        "act": one_of("star_relu", "gelu", "relu", "silu", "hardswish", default="star_relu"),
        "bias": flag(False),
    },
)
class SeparableConv(nn.Module):
    """reduce(depthwise(act(expand(x)))) with expand to expansion * C channels and a kernel x kernel depth-wise convolution.

    No norm between the layers, and no activation after the depth-wise convolution; ConvFormer has expansion 2, kernel 7 and no
    biases. MACs N e (2 C^2 + kernel^2 C) with e the expansion and N = H W. In a supernet kernels share their centre.
    """

    def __init__(
        self, width: int, size: int, *, kernel: int, expansion: int, act: str = "star_relu", bias: bool = False
    ) -> None:
        super().__init__()
        hidden = expansion * width
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.act = activation(act)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=bias)
        self.reduce = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        hidden = self.act(self.expand(x)).permute(0, 3, 1, 2)
        y: Tensor = self.reduce(self.depthwise(hidden).permute(0, 2, 3, 1))
        return y


def reference(module: SeparableConv, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    hidden = naive_activation(module.act, naive.linear(module.expand, x))
    return naive.linear(module.reduce, naive.conv2d(module.depthwise, hidden))


def macs(width: int, size: int, *, kernel: int, expansion: int, act: str = "star_relu", bias: bool = False) -> int:
    """Multiply-adds for one image."""
    return size**2 * expansion * (2 * width**2 + kernel**2 * width)
