"""The residual whose norm follows the mixer."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, register


@register(
    "post_norm",
    Kind.RESIDUAL,
    cite="Liu et al. 2022 (Swin V2), arXiv:2111.09883, section 3.2; official swin_transformer_v2.py SwinTransformerBlock",
)
class PostNorm(Residual):
    """x + norm(op(x)): the branch is normed before it joins, the stream never."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__(norm, op)

    def forward(self, x: Tensor, *side: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, H, W, C) and what the operator reads beside it -> (B, H, W, C), and what the operator emits."""
        y = self.op(x, *side)
        return (x + self.norm(y[0]), *y[1:]) if isinstance(y, tuple) else x + self.norm(y)


def reference(module: PostNorm, x: Tensor) -> Tensor:
    """The sum of the stream and the normed branch."""
    branch = module.op(x)
    return module.norm(branch) + x
