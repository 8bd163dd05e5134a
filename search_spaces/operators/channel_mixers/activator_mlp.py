"""The gated perceptron of Activator: the gate through GELU, and one layer norm for gate and value."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, register


@register(
    "activator_mlp",
    Kind.CHANNEL_MIXER,
    family="gated_mlp",
    cite="Abdullah 2024 (Activator), arXiv:2405.15953; official activator.py ActivatorGatingUnit",
    settings={"expansion": EXPANSION},
)
class ActivatorMLP(nn.Module):
    """reduce(norm(gelu(gate(x))) * norm(value(x))), position by position, with one layer norm (eps 1e-5) for both.

    The paper puts it in the place of attention; the released code mixes no positions, so that it is a channel mixer here.
    With hidden width E = expansion * C: parameters 3 C E + 4 E + C, MACs 3 H W C E.
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (
            ("value.weight", 0),
            ("value.bias", 0),
            ("gate.weight", 0),
            ("gate.bias", 0),
            ("norm.weight", 0),
            ("norm.bias", 0),
            ("reduce.weight", 1),
        ),
    )

    def __init__(self, width: int, size: int, *, expansion: int) -> None:
        super().__init__()
        hidden = expansion * width
        self.value, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.norm = nn.LayerNorm(hidden)
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        out: Tensor = self.reduce(self.norm(self.act(self.gate(x))) * self.norm(self.value(x)))
        return out


def reference(module: ActivatorMLP, x: Tensor) -> Tensor:
    """Layer by layer."""
    gate = naive.layer_norm(module.norm, naive.gelu(naive.linear(module.gate, x)))
    return naive.linear(module.reduce, gate * naive.layer_norm(module.norm, naive.linear(module.value, x)))


def macs(width: int, size: int, *, expansion: int) -> int:
    """Multiply-adds on a size x size map: 3 H W C E."""
    return 3 * size**2 * expansion * width**2
