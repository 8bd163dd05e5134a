"""The head that reads the class token."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, register


@register("class_token", Kind.HEAD, cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 4; timm vision_transformer.py")
class ClassTokenHead(nn.Module):
    """linear(norm(first token)); on a map without a class token that is its upper left position."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N + 1, C) -> (B, num_classes)."""
        return self.linear(self.norm(x)[:, 0, 0])


def reference(module: ClassTokenHead, x: Tensor) -> Tensor:
    """All tokens classified, the first kept."""
    return naive.linear(module.linear, module.norm(x).flatten(1, 2))[:, 0]
