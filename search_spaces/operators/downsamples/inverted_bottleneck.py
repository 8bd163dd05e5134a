"""Downsampling by an inverted bottleneck that is a multiple of the old width inside."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.downsamples.position_table import STRIDE
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "inverted_bottleneck",
    Kind.DOWNSAMPLE,
    cite="Sandler et al. 2018 (MobileNetV2), arXiv:1801.04381, table 1; Mehta and Rastegari 2022 (MobileViT), "
    "arXiv:2110.02178, timm mobilevit.py _inverted_residual_block",
    settings={
        "ratio": Setting((2, 4), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide"),
        "activation": one_of("silu", "relu", "gelu", "hardswish", default="silu"),
        "stride": STRIDE,
    },
    out_map=lambda height, width, settings: (-(-height // int(settings["stride"])), -(-width // int(settings["stride"]))),
)
class InvertedBottleneck(nn.Module):
    """BN(P2 act(BN(DW act(BN(P1 x))))): P1 to ratio times the old width, DW depth-wise 3x3 with the stride; no biases.

    There is no way around it. With stride 1 it changes the width only.
    """

    def __init__(self, in_width: int, width: int, *, ratio: int, activation: str = "silu", stride: int = 2) -> None:
        super().__init__()
        hidden = ratio * in_width
        first, last = parts.convolutions([in_width, hidden], [1], kernel=1)[0], nn.Conv2d(hidden, width, 1, bias=False)
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.convs = nn.ModuleList((first, depthwise, last))
        self.norms = parts.batch_norms([hidden, hidden, width])
        self.acts = nn.ModuleList(ACTIVATIONS[name]() for name in (activation, activation, "none"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H / stride, W / stride, width), odd sizes rounded up."""
        x = x.permute(0, 3, 1, 2)
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(x)))
        return x.permute(0, 2, 3, 1)


def reference(module: InvertedBottleneck, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return parts.naive_convolutions(module.convs, module.norms, module.acts, x)
