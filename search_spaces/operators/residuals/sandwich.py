"""The residual with a norm on either side of the mixer."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, register


@register(
    "sandwich",
    Kind.RESIDUAL,
    cite="Ding et al. 2021 (CogView), arXiv:2105.13290, section 2.4 (sandwich layer norm)",
)
class Sandwich(Residual):
    """x + after(op(norm(x))): a second norm of the same kind follows the operator."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__(norm, op)
        self.after = copy.deepcopy(norm)

    def forward(self, x: Tensor, *side: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, H, W, C) and what the operator reads beside it -> (B, H, W, C), and what the operator emits."""
        y = self.op(self.norm(x), *side)
        return (x + self.after(y[0]), *y[1:]) if isinstance(y, tuple) else x + self.after(y)


def reference(module: Sandwich, x: Tensor) -> Tensor:
    """The sum of the stream and the branch between its norms."""
    branch = module.op(module.norm(x))
    return module.after(branch) + x
