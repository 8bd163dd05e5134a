"""Two depth-wise convolutions with a GELU and a batch norm between them."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import kernels
from nas.search_spaces.registry import Group, Kind, register


@register(
    "depthwise_pair",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="El-Nouby et al. 2021 (XCiT), arXiv:2106.09681, section 3.3 (local patch interaction); timm xcit.py LPI",
    settings={"kernel": kernels(3, 5, 7)},
)
class DepthwisePair(nn.Module):
    """last(norm(gelu(first(x)))), both convolutions depth-wise kernel x kernel with biases, zeros outside the map.

    The paper writes the norm before the GELU; the code, followed here, has it behind. XCiT has kernel 3. MACs
    2 N C kernel^2.
    """

    def __init__(self, width: int, size: int, *, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.act = nn.GELU()
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.last(self.norm(self.act(self.first(x.permute(0, 3, 1, 2)))))
        return y.permute(0, 2, 3, 1)


def reference(module: DepthwisePair, x: Tensor) -> Tensor:
    """Layer by layer, the convolutions tap by tap."""
    hidden = naive.batch_norm(module.norm, naive.gelu(naive.conv2d(module.first, x)))
    return naive.conv2d(module.last, hidden)


def macs(width: int, size: int, *, kernel: int) -> int:
    """Multiply-adds for one image."""
    return 2 * size**2 * width * kernel**2
