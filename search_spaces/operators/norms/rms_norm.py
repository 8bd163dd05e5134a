"""Root-mean-square norm over the channels of each position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.norms.layer_norm import epsilon
from nas.search_spaces.registry import Kind, register


@register("rms", Kind.NORM, cite="Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4", settings={"eps": epsilon(1e-6, 1e-5)})
class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight over the channels of each position."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__(width, eps=eps)


def reference(module: RMSNorm, x: Tensor) -> Tensor:
    """Position by position."""
    out = x.clone()
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        v = x[b, i, j]
        out[b, i, j] = v * torch.rsqrt((v * v).mean() + (module.eps or 0.0)) * module.weight
    return out
