"""The multi-layer perceptron with a depth-wise convolution on its hidden layer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.channel_mixers.mlp import ACTIVATION, EXPANSION, hidden_setting
from nas.search_spaces.registry import Kind, flag, register


@register(
    "conv_mlp",
    Kind.CHANNEL_MIXER,
    family="mlp",
    cite="Wang et al. 2022 (PVTv2), arXiv:2106.13797, convolutional feed-forward; official pvt_v2.py Mlp and DWConv; "
    "SMT: arXiv:2307.08579, smt.py Mlp; RMT: arXiv:2309.11523, RMT.py FeedForwardNetwork",
    settings={
        "expansion": EXPANSION,
        "activation": ACTIVATION,
        "skip": flag(False),
        "late": flag(False),
        "hidden": hidden_setting(56, 88, 720),
        "rectified": flag(False),
    },
)
class ConvMLP(nn.Module):
    """W2 act(DW(W1 x)), with DW a depth-wise 3x3 convolution with zeros outside the map.

    `skip` adds what DW reads to what it puts out (SMT); `late` puts DW behind the activation, W2 DW(act(W1 x)) (RMT, with
    skip); `rectified` puts a ReLU between W1 and DW (the linear PVTv2). With hidden width E = expansion * C, or `hidden` where
    it is no multiple (A2Mamba): parameters 2 C E + 11 E + C, MACs H W (2 C E + 9 E).
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (("expand.weight", 0), ("expand.bias", 0), ("conv.weight", 0), ("conv.bias", 0), ("reduce.weight", 1)),
    )

    def __init__(
        self,
        width: int,
        size: int,
        *,
        expansion: int,
        activation: str = "gelu",
        skip: bool = False,
        late: bool = False,
        hidden: int = 0,
        rectified: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden or expansion * width
        self.skip, self.late = skip, late
        self.expand = nn.Linear(width, hidden)
        self.first_act = nn.ReLU() if rectified else nn.Identity()
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = ACTIVATIONS[activation]()
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        hidden = self.first_act(self.expand(x))
        hidden = self.act(hidden) if self.late else hidden
        mixed = self.conv(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.skip:
            mixed = mixed + hidden
        out: Tensor = self.reduce(mixed if self.late else self.act(mixed))
        return out


def reference(module: ConvMLP, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    hidden = naive_activation(module.first_act, naive.linear(module.expand, x))
    if module.late:
        hidden = naive_activation(module.act, hidden)
    mixed = naive.conv2d(module.conv, hidden) + (hidden if module.skip else 0)
    return naive.linear(module.reduce, mixed if module.late else naive_activation(module.act, mixed))


def macs(width: int, size: int, *, expansion: int, hidden: int = 0, **others: object) -> int:
    """Multiply-adds on a size x size map: H W (2 C E + 9 E)."""
    return size**2 * (hidden or expansion * width) * (2 * width + 9)
