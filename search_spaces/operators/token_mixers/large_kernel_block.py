"""Large-kernel convolution with channel attention and a convolutional MLP inside one residual."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import expansions
from nas.search_spaces.operators.response_norm import ResponseNorm, response_norm_reference
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_macs, squeeze_reference
from nas.search_spaces.operators.token_mixers.large_kernel_conv import KERNEL, LargeKernelConv
from nas.search_spaces.operators.token_mixers.large_kernel_conv import macs as conv_macs
from nas.search_spaces.operators.token_mixers.large_kernel_conv import reference as conv_reference
from nas.search_spaces.registry import Group, Kind, flag, register


@register(
    "large_kernel_block",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087; official LMMMEng/OverLoCK overlock.py RepConvBlock",
    settings={"kernel": KERNEL, "expansion": expansions(2, 3, 4), "merged": flag(False)},
)
class LargeKernelBlock(nn.Module):
    """reduce(GRN(u + DW3(u))), u = gelu(expand(S(BN(L(x))))), with L a `large_kernel_conv` and S squeeze and excitation.

    The body of OverLoCK's base blocks, whose residual spans all of it; the depth-wise convolution with a skip that stands
    before the norm there is a block of its own here. S has max(16, C // 8) channels and GELU. With e the expansion: MACs
    N (kernel^2 C + 2 e C^2 + 9 e C) + 2 C max(16, C // 8) in evaluation.
    """

    def __init__(self, width: int, size: int, *, kernel: int, expansion: int, merged: bool = False) -> None:
        super().__init__()
        hidden = expansion * width
        self.large = LargeKernelConv(width, size, kernel=kernel, merged=merged)
        self.norm = nn.BatchNorm2d(width)
        self.squeeze = SqueezeExcite(width, max(16, width // 8), act="gelu")
        self.expand = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.response = ResponseNorm(hidden)
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = self.norm(self.large(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        u = self.act(self.expand(self.squeeze(y)))
        u = u + self.conv(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        z: Tensor = self.reduce(self.response(u))
        return z


def reference(module: LargeKernelBlock, x: Tensor) -> Tensor:
    """Layer by layer, the convolutions tap by tap."""
    y = squeeze_reference(module.squeeze, naive.batch_norm(module.norm, conv_reference(module.large, x)))
    u = naive.gelu(naive.linear(module.expand, y))
    return naive.linear(module.reduce, response_norm_reference(module.response, u + naive.conv2d(module.conv, u)))


def macs(width: int, size: int, *, kernel: int, expansion: int, merged: bool = False) -> int:
    """Multiply-adds for one image in evaluation."""
    hidden = expansion * width
    inside = squeeze_macs(width, max(16, width // 8))
    return conv_macs(width, size, kernel=kernel) + inside + size**2 * hidden * (2 * width + 9)
