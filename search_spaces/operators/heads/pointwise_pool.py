"""The head that widens each position by a pointwise convolution before it averages."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.convolution import normed
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "pointwise_pool",
    Kind.HEAD,
    cite="Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381, table 2; Mehta and Rastegari 2022 (MobileViT), "
    "arXiv:2110.02178, timm mobilevit.py",
    settings={
        "expansion": Setting(
            (2, 4), lambda v, place: isinstance(v, int) and 1 <= v <= 8, "the map becomes 1 to 8 times as wide", 4
        ),
        "activation": one_of("silu", "relu", "gelu", "hardswish", default="silu"),
    },
)
class PointwisePoolHead(nn.Module):
    """linear(mean over positions of act(BN(P norm(x)))), P pointwise to `expansion` times as many channels, without bias."""

    def __init__(
        self,
        norm: Callable[[int], nn.Module],
        width: int,
        size: int,
        num_classes: int,
        *,
        expansion: int = 4,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.norm = norm(width)
        self.conv, self.conv_norm = nn.Conv2d(width, expansion * width, 1, bias=False), nn.BatchNorm2d(expansion * width)
        self.act, self.linear = ACTIVATIONS[activation](), nn.Linear(expansion * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        y = self.act(normed(self.conv, self.conv_norm, self.norm(x).permute(0, 3, 1, 2)))
        return self.linear(y.mean((2, 3)))


def reference(module: PointwisePoolHead, x: Tensor) -> Tensor:
    """The sum over the positions, divided by their number."""
    y = naive.batch_norm(module.conv_norm, naive.conv2d(module.conv, module.norm(x)))
    return naive.linear(module.linear, naive_activation(module.act, y).sum((1, 2)) / (x.shape[1] * x.shape[2]))
