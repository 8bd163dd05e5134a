"""The inverted bottleneck: a depth-wise convolution between two pointwise ones."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import normed
from nas.search_spaces.operators.squeeze import SqueezeExcite, divisible, squeeze_macs, squeeze_reference
from nas.search_spaces.registry import Group, Kind, Setting, flag, one_of, register


@register(
    "mbconv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381, table 1; SiLU: Tan and Le 2019 (EfficientNet), arXiv:1905.11946, "
        "section 5.2; timm _efficientnet_blocks.py InvertedResidual, maxxvit.py MbConvBlock, tiny_vit.py MBConv"
    ),
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "ratio": Setting((2, 3, 4), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide"),
        "act": one_of("silu", "relu", "gelu", "hardswish", "gelu_tanh", default="silu"),
        "squeeze": Setting(
            (0, 24, 16, 8, 4),
            rule=lambda v, place: v == 0 or 1 <= int(v) <= int(place.chosen["ratio"]) * place.width,
            because="the hidden layer is divided by 1 to as many as it has channels for the squeeze, which 0 leaves out",
            default=0,
        ),
        "gate": Setting(
            ("sigmoid", "hard_sigmoid"),
            rule=lambda v, place: v == "sigmoid" or (v == "hard_sigmoid" and place.chosen["squeeze"] != 0),
            because="it is sigmoid, or where there is a squeeze, hard_sigmoid",
            default="sigmoid",
        ),
        "last_norm": flag(True),
        "skip": flag(False),
        "eps": Setting((1e-5, 1e-3), lambda v, place: 0.0 < float(v) < 1.0, "epsilon lies between 0 and 1", 1e-5),
        "squeeze_act": Setting(
            ("same", "silu", "relu"),
            rule=lambda v, place: (
                v == "same" or (v in ("silu", "relu") and place.chosen["squeeze"] != 0 and place.chosen["gate"] == "sigmoid")
            ),
            because="it is same, or where there is a squeeze with a sigmoid gate, silu or relu",
            default="same",
        ),
    },
)
class MBConv(nn.Module):
    """BN(P2 S act(BN(DW act(BN(P1 x))))) with P1 to ratio * C channels, DW kernel x kernel depth-wise, P2 back to C.

    S is squeeze and excitation to E / squeeze channels, left out at 0 (as in TinyViT); EfficientNet has squeeze 4 ratio, which
    is a quarter of C. `squeeze_act`: the activation inside S (CoAtNet, MaxViT: silu). `gate` "hard_sigmoid" is MobileNetV3's
    (arXiv:1905.02244): ReLU inside and a multiple of 8 channels. Convolutions before a norm have no bias; without `last_norm`
    (CoAtNet, MaxViT) P2 has a bias in place of a norm. `skip` gives act(x + y) (TinyViT), for a block without residual. With
    hidden width E = ratio * C: MACs H W (2 C E + E kernel^2) + 2 E E / squeeze.
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (
            ("expand.weight", 0),
            ("expand_norm.weight", 0),
            ("expand_norm.bias", 0),
            ("depthwise.weight", 0),
            ("depthwise_norm.weight", 0),
            ("depthwise_norm.bias", 0),
            ("squeeze.reduce.weight", 1),
            ("squeeze.expand.weight", 0),
            ("squeeze.expand.bias", 0),
            ("reduce.weight", 1),
        ),
    )

    def __init__(
        self,
        width: int,
        size: int,
        *,
        kernel: int,
        ratio: int,
        act: str = "silu",
        squeeze: int = 0,
        gate: str = "sigmoid",
        last_norm: bool = True,
        skip: bool = False,
        eps: float = 1e-5,
        squeeze_act: str = "same",
    ) -> None:
        super().__init__()
        hidden = ratio * width
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden, eps=eps)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden, eps=eps)
        self.squeeze = (
            squeeze_excite(hidden, squeeze, gate, act if squeeze_act == "same" else squeeze_act) if squeeze else nn.Identity()
        )
        self.reduce = nn.Conv2d(hidden, width, 1, bias=not last_norm)
        self.reduce_norm = nn.BatchNorm2d(width, eps=eps) if last_norm else nn.Identity()
        self.act = activation(act)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = self.act(normed(self.expand, self.expand_norm, x.permute(0, 3, 1, 2)))
        y = self.act(normed(self.depthwise, self.depthwise_norm, y))
        y = self.squeeze(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = normed(self.reduce, self.reduce_norm, y) if isinstance(self.reduce_norm, nn.BatchNorm2d) else self.reduce(y)
        y = y.permute(0, 2, 3, 1)
        return self.act(x + y) if self.skip else y


def squeeze_excite(hidden: int, squeeze: int, gate: str, act: str) -> SqueezeExcite:
    """The squeeze of EfficientNet, or with a hard gate that of MobileNetV3."""
    return SqueezeExcite(hidden, squeezed(hidden, squeeze, gate), act="relu" if gate == "hard_sigmoid" else act, gate=gate)


def squeezed(hidden: int, squeeze: int, gate: str) -> int:
    """Channels inside the squeeze: hidden / squeeze rounded, for a hard gate to a multiple of 8 not under nine tenths of it."""
    if gate == "sigmoid":
        return max(1, round(hidden / squeeze))
    rounded = divisible(hidden / squeeze)
    return rounded if rounded >= 0.9 * hidden / squeeze else rounded + 8


def reference(module: MBConv, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    y = naive_activation(module.act, naive.batch_norm(module.expand_norm, naive.conv2d(module.expand, x)))
    y = naive_activation(module.act, naive.batch_norm(module.depthwise_norm, naive.conv2d(module.depthwise, y)))
    if isinstance(module.squeeze, SqueezeExcite):
        y = squeeze_reference(module.squeeze, y)
    y = naive.conv2d(module.reduce, y)
    if isinstance(module.reduce_norm, nn.BatchNorm2d):
        y = naive.batch_norm(module.reduce_norm, y)
    return naive_activation(module.act, x + y) if module.skip else y


def macs(
    width: int,
    size: int,
    *,
    kernel: int,
    ratio: int,
    act: str = "silu",
    squeeze: int = 0,
    gate: str = "sigmoid",
    last_norm: bool = True,
    skip: bool = False,
    eps: float = 1e-5,
    squeeze_act: str = "same",
) -> int:
    """Multiply-adds for one image."""
    hidden = ratio * width
    inside = squeeze_macs(hidden, squeezed(hidden, squeeze, gate)) if squeeze else 0
    return size**2 * hidden * (2 * width + kernel**2) + inside
