"""The head that averages first and norms the mean."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register(
    "pool_norm", Kind.HEAD, cite="Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, official convnext.py ConvNeXt.forward_features"
)
class PoolNormHead(nn.Module):
    """linear(norm(mean over positions of x)); with a batch norm it is the head of LSNet, arXiv:2503.23135."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        return self.linear(self.norm(x.mean((1, 2), keepdim=True)).flatten(1))


def reference(module: PoolNormHead, x: Tensor) -> Tensor:
    """The sum over the positions, divided by their number, then the norm."""
    total = x[:, :1, :1] * 0
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            total = total + x[:, i : i + 1, j : j + 1]
    return naive.linear(module.linear, module.norm(total / (x.shape[1] * x.shape[2]))[:, 0, 0])
