"""Root-mean-square norm over the channels of each position."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Kind, register


@register("rms", Kind.NORM, cite="Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4")
class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + 1e-6) * weight over the channels of each position."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)


def reference(module: RMSNorm, x: Tensor) -> Tensor:
    """Position by position."""
    out = x.clone()
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        v = x[b, i, j]
        out[b, i, j] = v / ((v * v).mean() + 1e-6).sqrt() * module.weight
    return out
