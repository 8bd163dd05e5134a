"""The gated multi-layer perceptron: the hidden layer is a product of two linear maps, one of them through GELU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, register


@register(
    "gated_mlp",
    Kind.CHANNEL_MIXER,
    cite="Shazeer 2020, arXiv:2002.05202, eq. 5-6 (GEGLU)",
    settings={"expansion": EXPANSION},
)
class GatedMLP(nn.Module):
    """reduce(value(x) * gelu(gate(x))), position by position.

    The hidden width E is 2/3 of expansion * C, so that it costs what the plain perceptron of that expansion does, rounded to
    the nearest multiple of 8. `value` and `gate` are separate layers: slices of a fused one would mix them. The paper has
    no biases; here all three layers have one. Parameters 3 C E + 2 E + C, MACs 3 H W C E.
    """

    def __init__(self, width: int, size: int, *, expansion: int) -> None:
        super().__init__()
        hidden = gated_width(width, expansion)
        self.value, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        out: Tensor = self.reduce(self.value(x) * F.gelu(self.gate(x)))
        return out


def gated_width(width: int, expansion: int) -> int:
    """The multiple of 8 nearest to 2/3 * expansion * width (the larger of two equally near), at least 8."""
    return max(8, (2 * expansion * width + 12) // 24 * 8)


def reference(module: GatedMLP, x: Tensor) -> Tensor:
    """Layer by layer."""
    return naive.linear(module.reduce, naive.linear(module.value, x) * naive.gelu(naive.linear(module.gate, x)))
