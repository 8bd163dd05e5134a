"""The head that reads the class token."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, register


@register(
    "class_token",
    Kind.HEAD,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 4; timm vision_transformer.py; half: Han et al. 2021 (TNT), "
    "arXiv:2103.00112, timm tnt.py",
    settings={
        "half": Setting((False, True), lambda v, place: not v or place.width >= 2, "there are two channels to halve", False)
    },
)
class ClassTokenHead(nn.Module):
    """linear(norm(first token)); on a map without a class token that is its upper left position.

    `half`: the first half of its channels only, which are the patch's where the rest are its pixels' (TNT).
    """

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int, *, half: bool = False
    ) -> None:
        super().__init__()
        self.channels = width // 2 if half else width
        self.norm, self.linear = norm(self.channels), nn.Linear(self.channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, N + 1, C) -> (B, num_classes)."""
        return self.linear(self.norm(x[..., : self.channels])[:, 0, 0])


def reference(module: ClassTokenHead, x: Tensor) -> Tensor:
    """All tokens classified, the first kept."""
    return naive.linear(module.linear, module.norm(x[..., : module.channels]).flatten(1, 2))[:, 0]
