"""A dense convolution with a batch norm and an activation, for early stages."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import kernels, normed
from nas.search_spaces.registry import Group, Kind, one_of, register


@register(
    "dense_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="He et al. 2016 (ResNet), arXiv:1512.03385, section 3.3-3.4; timm conv_bn_act.py ConvNormAct",
    settings={
        "kernel": kernels(3, 5, 7),
        "act": one_of("relu", "gelu", "silu", "hardswish", "none", default="relu"),
    },
)
class DenseConv(nn.Module):
    """act(norm(conv(x))): a convolution between all channels without bias, a batch norm, an activation. MACs N kernel^2 C^2."""

    def __init__(self, width: int, size: int, *, kernel: int, act: str = "relu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.act(normed(self.conv, self.norm, x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return y


def reference(module: DenseConv, x: Tensor) -> Tensor:
    """Tap by tap, then normalised."""
    return naive_activation(module.act, naive.batch_norm(module.norm, naive.conv2d(module.conv, x)))


def macs(width: int, size: int, *, kernel: int, act: str = "relu") -> int:
    """Multiply-adds for one image."""
    return size**2 * kernel**2 * width**2
