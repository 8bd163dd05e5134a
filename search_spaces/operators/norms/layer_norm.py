"""Layer norm over the channels of each position."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Kind, register


@register("layer", Kind.NORM, cite="Ba et al. 2016, arXiv:1607.06450, eq. 4")
class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(var + 1e-6) * weight + bias over the channels of each position."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)


def reference(module: LayerNorm, x: Tensor) -> Tensor:
    """Position by position, biased variance."""
    out = x.clone()
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        v = x[b, i, j]
        variance = ((v - v.mean()) ** 2).mean()
        out[b, i, j] = (v - v.mean()) / (variance + module.eps).sqrt() * module.weight + module.bias
    return out
