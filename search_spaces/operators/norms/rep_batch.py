"""Re-parameterisable batch norm: batch norm and a scaled identity side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.norms.layer_norm import epsilon
from nas.search_spaces.registry import Kind, register


@register(
    "rep_batch",
    Kind.NORM,
    cite="Guo et al. 2024 (SLAB), arXiv:2405.11582, eq. 6; official classification/models/prepbn.py RepBN",
    settings={"eps": epsilon(1e-5, 1e-6)},
)
class RepBatchNorm(nn.BatchNorm2d):
    """batch_norm(x) + alpha x with one learned alpha, which merges into one affine map for inference."""

    def __init__(self, width: int, *, eps: float = 1e-5) -> None:
        super().__init__(width, eps=eps)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + self.alpha * x


def reference(module: RepBatchNorm, x: Tensor) -> Tensor:
    """The two paths one after the other."""
    return naive.batch_norm(module, x) + x * module.alpha
