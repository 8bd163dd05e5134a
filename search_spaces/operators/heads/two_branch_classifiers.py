"""The head of two branches that lie side by side in the channels, each with a classifier of its own."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register(
    "two_branch_classifiers",
    Kind.HEAD,
    cite="Chen et al. 2021 (CrossViT), arXiv:2103.14899, section 3; timm crossvit.py CrossVit.forward_head",
)
class TwoBranchClassifiersHead(nn.Module):
    """(linear(norm(a)) + second(second_norm(b))) / 2 of the first position, a a third of its channels and b the rest.

    As `two_branch_trunk` lays them; on any map the classifiers read so much of its upper left position.
    """

    def __init__(self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.third = width // 3
        self.norm, self.linear = norm(self.third), nn.Linear(self.third, num_classes)
        self.second_norm, self.second = norm(width - self.third), nn.Linear(width - self.third, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        small, large = self.norm(x[..., : self.third])[:, 0, 0], self.second_norm(x[..., self.third :])[:, 0, 0]
        return (self.linear(small) + self.second(large)) / 2


def reference(module: TwoBranchClassifiersHead, x: Tensor) -> Tensor:
    """All positions classified, the first kept."""
    small, large = module.norm(x[..., : module.third]), module.second_norm(x[..., module.third :])
    logits = 0.5 * naive.linear(module.linear, small) + 0.5 * naive.linear(module.second, large)
    return logits[:, 0, 0]
