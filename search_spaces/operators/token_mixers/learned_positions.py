"""Learned absolute positions, added to the map."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.registry import Group, Kind, register


@register(
    "learned_positions",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 1; at the start of each stage: Si et al. 2022 (Inception "
    "Transformer), arXiv:2205.12956, official inception_transformer.py InceptionTransformer.forward_features",
)
class LearnedPositions(nn.Module):
    """x + table, one learned vector a position: the block at the start of a stage, with residual and norm `none`.

    On maps of another size than the table it is resized bilinearly. size^2 C parameters, no MACs.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(size, size, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + fitted(self.table, x.shape[1], x.shape[2])


def macs(width: int, size: int) -> int:
    """None."""
    return 0


def reference(module: LearnedPositions, x: Tensor) -> Tensor:
    """Position by position, each the mean of its neighbours in the table, weighted by their distance."""
    rows, columns = (stretch(have, want).to(x) for have, want in zip(module.table.shape[:2], x.shape[1:3], strict=True))
    return x + torch.einsum("ih,jw,hwc->ijc", rows, columns, module.table)
