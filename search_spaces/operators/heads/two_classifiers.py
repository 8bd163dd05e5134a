"""The head with a second classifier, which was trained by distillation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, flag, register


@register(
    "two_classifiers",
    Kind.HEAD,
    cite="Touvron et al. 2021 (DeiT), arXiv:2012.12877, section 4 (joint classifiers); without a token: Graham et al. 2021 "
    "(LeViT), arXiv:2104.01136, timm levit.py LevitDistilled; EfficientFormer, arXiv:2206.01191, timm efficientformer.py",
    settings={"separate": flag(False)},
)
class TwoClassifiersHead(nn.Module):
    """(linear(y) + second(y)) / 2 with y the mean over the positions of norm(x).

    `separate`: each classifier has a norm of its own, behind the mean (LeViT). The published networks train the two apart, the
    second on a teacher's decisions; here training and evaluation are the same.
    """

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int, *, separate: bool = False
    ) -> None:
        super().__init__()
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)
        self.second_norm = norm(width) if separate else None
        self.second = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        if self.second_norm is None:
            y = self.norm(x).mean((1, 2))
            return (self.linear(y) + self.second(y)) / 2
        mean = x.mean((1, 2), keepdim=True)
        first, second = self.norm(mean).flatten(1), self.second_norm(mean).flatten(1)
        return (self.linear(first) + self.second(second)) / 2


def reference(module: TwoClassifiersHead, x: Tensor) -> Tensor:
    """The sums over the positions, divided by their number."""
    count = x.shape[1] * x.shape[2]
    if module.second_norm is None:
        first = second = module.norm(x).sum((1, 2)) / count
    else:
        mean = x.sum((1, 2))[:, None, None] / count
        first, second = module.norm(mean)[:, 0, 0], module.second_norm(mean)[:, 0, 0]
    return 0.5 * naive.linear(module.linear, first) + 0.5 * naive.linear(module.second, second)
