"""A depth-wise convolution that is added to the input."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.positions.base import Position


class CpePosition(Position):
    """x + DW3x3(x) before the projections: Chu et al. 2021 (CPVT, conditional positional encoding), arXiv:2102.10882.

    There, and in PPMA and RMT, it stands before the norm of the block, as a block of its own; here it is part of the mixer.
    """

    own_map = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def before(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def map_macs(self, pixels: int) -> int:
        """9 MACs for each channel and pixel."""
        return 9 * pixels * self.width


def before_reference(module: CpePosition, x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H, W, C)."""
    return x + naive.conv2d(module.conv, x)
