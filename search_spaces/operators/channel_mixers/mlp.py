"""The multi-layer perceptron of transformers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.registry import Kind, Place, Setting, Value, flag, one_of, register

EXPANSION = Setting((2, 3, 4), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide")
ACTIVATION = one_of("gelu", "relu", "silu", "star_relu", "hardswish", "quick_gelu", "gelu_tanh", default="gelu")


def hidden_setting(*choices: int) -> Setting:
    """The optional width of a hidden layer that is no whole multiple of the map's; 0 is expansion * width."""
    return Setting(
        (0, *choices),
        rule=_fractional,
        because="hidden is 0 or no multiple of the width, and expansion is hidden / width rounded down",
        default=0,
    )


def _fractional(value: Value, place: Place) -> bool:
    """So that each hidden width has one name."""
    return value == 0 or (int(value) // place.width == place.chosen["expansion"] and int(value) % place.width != 0)


@register(
    "mlp",
    Kind.CHANNEL_MIXER,
    cite="Vaswani et al. 2017, arXiv:1706.03762, eq. 2; batch norms: Wang et al. 2025 (LSNet), arXiv:2503.23135, lsnet.py FFN; "
    "layer norm: Zhang et al. 2022 (FcaFormer), arXiv:2211.07198, fcaformer.py Mlp",
    settings={
        "expansion": EXPANSION,
        "activation": ACTIVATION,
        "bias": flag(True),
        "inner_norm": one_of("none", "batch", "layer", default="none"),
        "hidden": hidden_setting(56, 88, 720),
    },
)
class MLP(nn.Module):
    """W2 act(W1 x), position by position.

    With `inner_norm` batch each of the two linear maps is followed by a batch norm (LSNet, and with biases EfficientFormer);
    with `layer` a layer norm comes before W1, behind the block's own (FcaFormer's code has both, eps 1e-5). MetaFormer's has
    StarReLU and no biases; ViT-ResNAS searches `hidden` freely. With E hidden channels: parameters 2 C E + E + C (2 C E
    without bias; batch norms add 2 E + 2 C, a layer norm 2 C), MACs 2 H W C E.
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (("expand.weight", 0), ("expand.bias", 0), ("expand_norm.weight", 0), ("expand_norm.bias", 0), ("reduce.weight", 1)),
    )

    def __init__(
        self,
        width: int,
        size: int,
        *,
        expansion: int,
        activation: str = "gelu",
        bias: bool = True,
        inner_norm: str = "none",
        hidden: int = 0,
    ) -> None:
        super().__init__()
        hidden = hidden or expansion * width
        self.expand = nn.Linear(width, hidden, bias=bias)
        self.act = ACTIVATIONS[activation]()
        self.reduce = nn.Linear(hidden, width, bias=bias)
        self.first_norm = nn.LayerNorm(width) if inner_norm == "layer" else None
        self.normed = inner_norm == "batch"
        if self.normed:
            self.expand_norm, self.reduce_norm = nn.BatchNorm2d(hidden), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor
        x = x if self.first_norm is None else self.first_norm(x)
        if not self.normed:
            y = self.reduce(self.act(self.expand(x)))
            return y
        y = self.act(batch_normed(self.expand_norm, self.expand(x)))
        return batch_normed(self.reduce_norm, self.reduce(y))


def batch_normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A batch norm on a map whose channels are last."""
    y: Tensor = norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return y


def reference(module: MLP, x: Tensor) -> Tensor:
    """Layer by layer, output channel by output channel."""
    x = x if module.first_norm is None else naive.layer_norm(module.first_norm, x)
    hidden = naive.linear(module.expand, x)
    if module.normed:
        hidden = naive.batch_norm(module.expand_norm, hidden)
    out = naive.linear(module.reduce, naive_activation(module.act, hidden))
    return naive.batch_norm(module.reduce_norm, out) if module.normed else out


def macs(width: int, size: int, *, expansion: int, hidden: int = 0, **others: object) -> int:
    """Multiply-adds on a size x size map: 2 H W C E."""
    return 2 * size**2 * width * (hidden or expansion * width)
