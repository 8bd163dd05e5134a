"""The multi-layer perceptron behind a depth-wise convolution with batch norm."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.channel_mixers.mlp import ACTIVATION, EXPANSION
from nas.search_spaces.operators.convolution import ConvNorm, conv_norm_reference, depthwise, kernels
from nas.search_spaces.registry import Kind, register


@register(
    "preceded_mlp",
    Kind.CHANNEL_MIXER,
    family="mlp",
    cite="Vasu et al. 2023 (FastViT), arXiv:2303.14189, section 3.2.3; timm fastvit.py ConvMlp",
    settings={"expansion": EXPANSION, "kernel": kernels(7, 5, 3, default=7, least=1), "activation": ACTIVATION},
)
class PrecededMLP(nn.Module):
    """W2 act(W1 BN(DW x)), with DW a depth-wise kernel x kernel convolution without bias, zeros outside the map.

    The batch norm takes the place of the one before the operator, which FastViT does without. In evaluation it is folded into
    the convolution. With hidden width E = expansion * C: MACs H W (kernel^2 C + 2 C E).
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (("expand.weight", 0), ("expand.bias", 0), ("reduce.weight", 1)),
    )

    def __init__(self, width: int, size: int, *, expansion: int, kernel: int = 7, activation: str = "gelu") -> None:
        super().__init__()
        self.local = ConvNorm(width, kernel)
        self.expand = nn.Linear(width, expansion * width)
        self.act = ACTIVATIONS[activation]()
        self.reduce = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        mixed = self.local(x) if self.training else depthwise(x, *self.local.folded())
        y: Tensor = self.reduce(self.act(self.expand(mixed.permute(0, 2, 3, 1))))
        return y


def reference(module: PrecededMLP, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    hidden = naive.linear(module.expand, conv_norm_reference(module.local, x))
    return naive.linear(module.reduce, naive_activation(module.act, hidden))


def macs(width: int, size: int, *, expansion: int, kernel: int = 7, activation: str = "gelu") -> int:
    """Multiply-adds on a size x size map: H W (kernel^2 C + 2 C E)."""
    return size**2 * width * (kernel**2 + 2 * expansion * width)
