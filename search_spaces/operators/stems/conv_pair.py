"""Stem of two 3x3 convolutions, the first of which halves the map."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register


@register(
    "conv_pair",
    Kind.STEM,
    cite="Dai et al. 2021 (CoAtNet), arXiv:2106.04803, table 3; Tu et al. 2022 (MaxViT), arXiv:2204.01697, figure 2; timm "
    "maxxvit.py Stem",
    settings={
        "stride": Setting((2,), rule=lambda v, place: v == 2, because="the first convolution halves the map"),
        "inner": Setting(
            (0, 32), rule=lambda v, place: v == 0 or int(v) >= 8, because="inner is 0 (the width) or at least 8", default=0
        ),
        "activation": one_of("gelu", "silu", "relu", "gelu_tanh", default="gelu"),
        "bias": flag(False),
        "even": flag(False),
        "eps": Setting((1e-5, 1e-3), lambda v, place: 0 < float(v) <= 0.01, "eps is above 0 and at most 0.01", 1e-5),
    },
)
class ConvPair(nn.Module):
    """conv2(act(BN(conv1(image)))): conv1 to `inner` channels with stride 2, conv2 to the width with stride 1.

    With `even` (MaxViT) the image is padded as by TensorFlow: with zeros at the right and the bottom only where its size is
    even. MaxViT has biases too.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        inner: int = 0,
        activation: str = "gelu",
        bias: bool = False,
        even: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.even = even
        self.first = nn.Conv2d(in_channels, inner or width, 3, stride, padding=0 if even else 1, bias=bias)
        self.norm = nn.BatchNorm2d(inner or width, eps=eps)
        self.act = ACTIVATIONS[activation]()
        self.second = nn.Conv2d(inner or width, width, 3, padding=1, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/2, W/2, width)."""
        half = self.act(self.norm(self.first(parts.even_padded(image) if self.even else image)))
        maps: Tensor = self.second(half).permute(0, 2, 3, 1)
        return maps


def reference(module: ConvPair, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = image.permute(0, 2, 3, 1)
    x = naive.conv2d(module.first, parts.naive_even_padded(x) if module.even else x)
    return naive.conv2d(module.second, naive_activation(module.act, naive.batch_norm(module.norm, x)))
