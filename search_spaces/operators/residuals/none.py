"""No residual: the mixer replaces the stream."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, register


@register(
    "none", Kind.RESIDUAL, cite="Wu et al. 2022 (TinyViT), arXiv:2207.10666, section 3.3: the local convolution of a block"
)
class NoResidual(Residual):
    """op(norm(x)), without a way around it."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__(norm, op)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> the second."""
        return y


def reference(module: NoResidual, x: Tensor) -> Tensor:
    """What the operator gives."""
    normed = module.norm(x)
    return module.op(normed)
