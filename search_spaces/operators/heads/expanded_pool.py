"""The head that widens the map before it averages."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.reparam import ReparamBranches, branches_reference
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_reference
from nas.search_spaces.registry import Kind, Setting, register


@register(
    "expanded_pool",
    Kind.HEAD,
    cite="Vasu et al. 2023 (FastViT), arXiv:2303.14189; timm fastvit.py FastVit.final_conv and head",
    settings={
        "expansion": Setting(
            (2, 3), lambda v, place: isinstance(v, int) and 1 <= v <= 8, "the map becomes 1 to 8 times as wide", 2
        )
    },
)
class ExpandedPoolHead(nn.Module):
    """linear(mean over positions of gelu(S B norm(x))), B to `expansion` times as many channels, S squeeze and excitation.

    B is a depth-wise 3x3 convolution with a pointwise one beside it (`ReparamBranches`), S has a sixteenth of its channels
    inside.
    """

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int, *, expansion: int = 2
    ) -> None:
        super().__init__()
        wide = expansion * width
        self.norm = norm(width)
        self.conv = ReparamBranches(width, wide, 3, groups=width, small=1)
        self.squeeze = SqueezeExcite(wide, max(wide // 16, 1))
        self.linear = nn.Linear(wide, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        y = self.squeeze(self.conv(self.norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return self.linear(F.gelu(y).mean((1, 2)))


def reference(module: ExpandedPoolHead, x: Tensor) -> Tensor:
    """Branch by branch, tap by tap; the sum over the positions, divided by their number."""
    y = naive.gelu(squeeze_reference(module.squeeze, branches_reference(module.conv, module.norm(x))))
    return naive.linear(module.linear, y.sum((1, 2)) / (x.shape[1] * x.shape[2]))
