"""A bias for each pair of positions, learned once and read by all attention of a stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.token_mixers.overlapping_reduction_attention import stretched, stretched_reference
from nas.search_spaces.registry import Group, Kind, Setting, register

LARGEST = 2**20
"""Pairs of a table at most."""


@register(
    "pair_positions",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite="Lou et al. 2023 (TransXNet), arXiv:2310.19380; official transxnet.py TransXNet, relative_pos_enc",
    emits="positions",
    settings={
        "heads": Setting((1, 2, 4, 8), lambda v, place: 1 <= int(v) <= place.width, "from 1 to as many heads as channels"),
        "reduction": Setting(
            (8, 4, 2, 1),
            lambda v, place: int(v) >= 1 and (place.size * -(-place.size // int(v))) ** 2 <= LARGEST,
            "a reduction is at least 1, and there are at most 2^20 pairs: (size * ceil(size / reduction))^2",
        ),
    },
)
class PairPositions(nn.Module):
    """x, and beside it a table (heads, N, M) of biases for N queries and the M positions that a reduction leaves as keys.

    The block at the start of a stage, with residual and norm `none`: each `dual_mixer` of the stage with as many heads and as
    great a reduction adds the table to its scores, as in TransXNet, where the blocks of a stage share one. For maps of another
    size it is stretched by bicubic interpolation over the flattened positions, as there. heads N M parameters, no MACs.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.pairs = nn.Parameter(torch.empty(heads, size**2, (-(-size // reduction)) ** 2))
        nn.init.trunc_normal_(self.pairs, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> the same, and the table (B, heads, N, M), the same for each image."""
        batch, height, width, _ = x.shape
        keys = -(-height // self.reduction) * -(-width // self.reduction)
        return x, stretched(self.pairs, height * width, keys).expand(batch, -1, -1, -1)


def reference(module: PairPositions, x: Tensor) -> tuple[Tensor, Tensor]:
    """Image by image."""
    rows, columns = (-(-length // module.reduction) for length in x.shape[1:3])
    table = stretched_reference(module.pairs, x.shape[1] * x.shape[2], rows * columns)
    return x, torch.stack([table for _ in x])


def macs(width: int, size: int, *, heads: int, reduction: int) -> int:
    """None."""
    return 0
