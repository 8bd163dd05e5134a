"""The ConvNeXt block: a depth-wise convolution, a layer norm and an MLP inside one residual."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import expansions, kernels
from nas.search_spaces.operators.tail import Tail, tail_macs, tail_reference
from nas.search_spaces.registry import Group, Kind, flag, register


@register(
    "convnext_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, figure 4; response: Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808; "
        "timm convnext.py ConvNeXtBlock"
    ),
    settings={
        "kernel": kernels(3, 5, 7, 9, 11),
        "expansion": expansions(2, 3, 4),
        "response": flag(False),
    },
)
class ConvNextConv(nn.Module):
    """tail(conv(x)): conv depth-wise, kernel x kernel, with bias; tail a layer norm, expansion, GELU and reduction.

    ConvNeXt has kernel 7 and expansion 4, no norm before the operator and no channel mixer after it; V2 adds `response`, a
    global response norm of the hidden layer. MACs N (kernel^2 C + 2 e C^2) with e the expansion.
    """

    def __init__(self, width: int, size: int, *, kernel: int, expansion: int, response: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.tail = Tail(width, expansion, response=response)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.tail(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return y


def reference(module: ConvNextConv, x: Tensor) -> Tensor:
    """Tap by tap, then layer by layer."""
    return tail_reference(module.tail, naive.conv2d(module.conv, x))


def macs(width: int, size: int, *, kernel: int, expansion: int, response: bool = False) -> int:
    """Multiply-adds for one image."""
    return size**2 * kernel**2 * width + tail_macs(width, size, expansion)
