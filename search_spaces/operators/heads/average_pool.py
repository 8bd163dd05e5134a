"""The head that norms each position and averages them, the default."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register(
    "average_pool", Kind.HEAD, cite="Lin et al. 2014, arXiv:1312.4400, section 3.2; Liu et al. 2021 (Swin), arXiv:2103.14030"
)
class AveragePoolHead(nn.Module):
    """linear(mean over positions of norm(x))."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        return self.linear(self.norm(x).mean((1, 2)))


def reference(module: AveragePoolHead, x: Tensor) -> Tensor:
    """The sum over the positions, divided by their number."""
    y = module.norm(x).flatten(1, 2)
    total = y[:, 0] * 0
    for position in range(y.shape[1]):
        total = total + y[:, position]
    return naive.linear(module.linear, total / y.shape[1])
