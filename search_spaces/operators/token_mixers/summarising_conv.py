"""A depth-wise convolution that also passes on a coarse summary of what it reads."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.token_mixers.forward_cross_attention import KERNEL, STRIDE
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "summarising_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Zhang et al. 2022 (FcaFormer), arXiv:2211.07198, section 3; official fcaformer.py FcaBlock, dw_conv and local_conv",
    emits="summary",
    settings={
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) % 2 == 1 and 0 <= int(v) // 2 < place.size,
            because="a kernel is odd and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
    },
)
class SummarisingConv(nn.Module):
    """BN(DW(x)), and beside it the summary DW7(x) at stride 4, which `summary_cross_attention` reads.

    Both depth-wise convolutions are without bias. FcaFormer has kernel 3 in the place of the stream: residual and norm `none`.
    MACs with S = ceil(H / 4) ceil(W / 4): C (N kernel^2 + 49 S).
    """

    def __init__(self, width: int, size: int, *, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.summary = nn.Conv2d(width, width, KERNEL, STRIDE, KERNEL // 2, groups=width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> (B, H, W, C), and the summary (B, ceil(H / 4), ceil(W / 4), C)."""
        maps = x.permute(0, 3, 1, 2)
        return self.norm(self.conv(maps)).permute(0, 2, 3, 1), self.summary(maps).permute(0, 2, 3, 1)


def reference(module: SummarisingConv, x: Tensor) -> tuple[Tensor, Tensor]:
    """Tap by tap."""
    return naive.batch_norm(module.norm, naive.conv2d(module.conv, x)), naive.conv2d(module.summary, x)


def macs(width: int, size: int, *, kernel: int) -> int:
    """Multiply-adds on a size x size map."""
    return width * (size**2 * kernel**2 + (-(-size // STRIDE)) ** 2 * KERNEL**2)
