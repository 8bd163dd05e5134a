"""The gated multi-layer perceptron: the hidden layer is a product of two linear maps, one of them through an activation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, flag, one_of, register


@register(
    "gated_mlp",
    Kind.CHANNEL_MIXER,
    cite="Shazeer 2020, arXiv:2002.05202, eq. 5-6 (GEGLU, SwiGLU); convolution and norm: AttNet, "
    "price112/Attentive-Convolution AttNet.py GLU",
    settings={
        "expansion": EXPANSION,
        "activation": one_of("gelu", "silu", "relu", "sigmoid", default="gelu"),
        "hidden": one_of("rounded", "two_thirds", "whole", default="rounded"),
        "conv": flag(False),
        "inner_norm": one_of("none", "rms", "layer", default="none"),
        "bias": flag(True),
    },
)
class GatedMLP(nn.Module):
    """reduce(norm(value(x) * act(conv(gate(x))))), position by position but for the convolution.

    The hidden width E is 2/3 of expansion * C, so that it costs what the plain perceptron of that expansion does: `hidden`
    says whether it is rounded to the nearest multiple of 8, rounded down (AttNet), or expansion * C itself. `conv` is a
    depth-wise 3x3 convolution with a bias; `inner_norm` has eps 1e-6. The official AttNet has one layer for gate and value,
    the gate first; slices of a fused one would mix them. Parameters 3 C E + 2 E + C (and 10 E for the convolution), MACs
    H W (3 C E + 9 E), the last only with the convolution.
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (
            ("value.weight", 0),
            ("value.bias", 0),
            ("gate.weight", 0),
            ("gate.bias", 0),
            ("conv.weight", 0),
            ("conv.bias", 0),
            ("norm.weight", 0),
            ("norm.bias", 0),
            ("reduce.weight", 1),
        ),
    )

    def __init__(
        self,
        width: int,
        size: int,
        *,
        expansion: int,
        activation: str = "gelu",
        hidden: str = "rounded",
        conv: bool = False,
        inner_norm: str = "none",
        bias: bool = True,
    ) -> None:
        super().__init__()
        inner = hidden_width(width, expansion, hidden)
        self.value, self.gate = nn.Linear(width, inner, bias=bias), nn.Linear(width, inner, bias=bias)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner) if conv else None
        self.act = ACTIVATIONS[activation]()
        self.norm = _norm(inner_norm, inner)
        self.reduce = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        gate = self.gate(x)
        if self.conv is not None:
            gate = self.conv(gate.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.reduce(self.norm(self.value(x) * self.act(gate)))
        return out


def _norm(name: str, width: int) -> nn.Module:
    if name == "rms":
        return nn.RMSNorm(width, eps=1e-6)
    return nn.LayerNorm(width, eps=1e-6) if name == "layer" else nn.Identity()


def gated_width(width: int, expansion: int) -> int:
    """The multiple of 8 nearest to 2/3 * expansion * width (the larger of two equally near), at least 8."""
    return max(8, (2 * expansion * width + 12) // 24 * 8)


def hidden_width(width: int, expansion: int, hidden: str) -> int:
    """Channels of the hidden layer."""
    if hidden == "rounded":
        return gated_width(width, expansion)
    return expansion * width if hidden == "whole" else 2 * expansion * width // 3


def reference(module: GatedMLP, x: Tensor) -> Tensor:
    """Layer by layer."""
    gate = naive.linear(module.gate, x)
    gate = gate if module.conv is None else naive.conv2d(module.conv, gate)
    product = naive.linear(module.value, x) * naive_activation(module.act, gate)
    if isinstance(module.norm, nn.RMSNorm):
        product = product / ((product**2).mean(-1, keepdim=True) + 1e-6).sqrt() * module.norm.weight
    elif isinstance(module.norm, nn.LayerNorm):
        product = naive.layer_norm(module.norm, product)
    return naive.linear(module.reduce, product)


def macs(width: int, size: int, *, expansion: int, hidden: str = "rounded", conv: bool = False, **others: object) -> int:
    """Multiply-adds on a size x size map: H W (3 C E + 9 E), the last only with the convolution."""
    inner = hidden_width(width, expansion, hidden)
    return size**2 * inner * (3 * width + (9 if conv else 0))
