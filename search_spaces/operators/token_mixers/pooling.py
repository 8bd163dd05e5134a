"""Average pooling as a token mixer without parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "pooling",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite="Yu et al. 2022 (PoolFormer), arXiv:2111.11418, eq. 4; official poolformer.py Pooling",
    settings={
        "pool": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a pool is odd, at least 3, and its outermost pixels lie on the map: pool // 2 < map size",
        ),
    },
)
class Pooling(nn.Module):
    """y[i, j] = mean of x over the pool x pool pixels around (i, j) that lie on the map, minus x[i, j].

    The subtraction cancels the block's residual (as in the official code). No parameters; H W C pool^2 additions, no MACs.
    """

    def __init__(self, width: int, size: int, *, pool: int) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mean = F.avg_pool2d(x.permute(0, 3, 1, 2), self.pool, 1, self.pool // 2, count_include_pad=False)
        return mean.permute(0, 2, 3, 1) - x


def reference(module: Pooling, x: Tensor) -> Tensor:
    """Pixel by pixel, over the part of the pool that lies on the map."""
    reach, (height, width) = module.pool // 2, x.shape[1:3]
    rows = []
    for i in range(height):
        parts = [x[:, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1] for j in range(width)]
        rows.append(torch.stack([part.mean((1, 2)) for part in parts], dim=1))
    return torch.stack(rows, dim=1) - x


def macs(width: int, size: int, *, pool: int) -> int:
    """Multiply-adds for one image: averages count as none."""
    return 0
