"""No norm."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.registry import Kind, register


@register("none", Kind.NORM, cite="Brock et al. 2021 (NFNet), arXiv:2102.06171: networks without norms")
class NoNorm(nn.Module):
    """x as it is, for operators that bring a norm of their own."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same."""
        return x


def reference(module: NoNorm, x: Tensor) -> Tensor:
    """A copy."""
    return x.clone()
