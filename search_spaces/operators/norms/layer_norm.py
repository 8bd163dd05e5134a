"""Layer norm over the channels of each position."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Kind, Setting, flag, register


def epsilon(default: float, other: float) -> Setting:
    """The optional constant under the root."""
    return Setting((default, other), lambda v, place: 0 < float(v) <= 0.01, "epsilon is above 0 and at most 0.01", default)


@register(
    "layer",
    Kind.NORM,
    cite="Ba et al. 2016, arXiv:1607.06450, eq. 4; without bias: Yu et al. 2022 (MetaFormer baselines), arXiv:2210.13452",
    settings={"eps": epsilon(1e-6, 1e-5), "bias": flag(True)},
)
class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the channels of each position."""

    def __init__(self, width: int, *, eps: float = 1e-6, bias: bool = True) -> None:
        super().__init__(width, eps=eps, bias=bias)


def reference(module: LayerNorm, x: Tensor) -> Tensor:
    """Position by position, biased variance."""
    out = x.clone()
    for b, i, j in ((b, i, j) for b in range(x.shape[0]) for i in range(x.shape[1]) for j in range(x.shape[2])):
        v = x[b, i, j]
        variance = ((v - v.mean()) ** 2).mean()
        out[b, i, j] = (v - v.mean()) / (variance + module.eps).sqrt() * module.weight
    return out if module.bias is None else out + module.bias
