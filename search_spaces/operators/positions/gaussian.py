"""Scores multiplied by a mixture of Gaussians of the distance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.positions.base import Layout, Pair, Position

KERNELS = 5
SMALLEST = 1e-5


class GaussianPosition(Position):
    """score *= sum_k height_kh exp(-distance^2 / (2 spread_kh^2)) with five Gaussians for each head.

    Chen et al. 2023 (RetNet viewed through convolution), arXiv:2309.05375, section 3; official models/gmm.py
    Gaussian_Mixture_Mask, which adds 1e-5 to spread^2, and its run script's 5 kernels and initial values.
    """

    places = True

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__(width, heads, reach, narrow)
        self.height = nn.Parameter(torch.randn(KERNELS, heads) * 2)
        self.spread = nn.Parameter(torch.randn(KERNELS, heads) * 10 + 10)

    def stretch(self, layout: Layout) -> Tensor:
        """(P or 1, heads, N, M)."""
        distance = -(layout.rows**2 + layout.columns**2).to(self.spread.dtype)[:, None]
        fall = 0.5 / (self.spread**2 + SMALLEST)
        parts = [
            height[:, None, None] * (distance * rate[:, None, None]).exp()
            for height, rate in zip(self.height.unbind(), fall.unbind(), strict=True)
        ]
        return torch.stack(parts).sum(0)


def stretch_reference(module: GaussianPosition, pairs: Sequence[Pair], head: int) -> Tensor:
    """The factor of each pair: (M,)."""
    distances = [-(pair.rows**2 + pair.columns**2) / 2 for pair in pairs]
    bell = torch.exp(torch.tensor(distances, dtype=module.spread.dtype))[:, None]
    return (module.height[:, head] * bell ** (1 / (module.spread[:, head] ** 2 + 1e-5))).sum(-1)
