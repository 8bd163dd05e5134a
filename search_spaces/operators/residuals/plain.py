"""The residual without a scale."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, register


@register(
    "plain", Kind.RESIDUAL, cite="He et al. 2016, arXiv:1603.05027, eq. 1; Xiong et al. 2020, arXiv:2002.04745 (pre-norm)"
)
class Plain(Residual):
    """x + op(norm(x))."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__(norm, op)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> (B, H, W, C)."""
        return x + y


def reference(module: Plain, x: Tensor) -> Tensor:
    """The sum."""
    return module.op(module.norm(x)).add(x)
