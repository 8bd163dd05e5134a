"""Downsampling by an inverted bottleneck: pointwise, strided depth-wise, pointwise."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, one_of, register


@register(
    "mbconv",
    Kind.DOWNSAMPLE,
    cite="Wu et al. 2022 (TinyViT), arXiv:2207.10666; timm tiny_vit.py PatchMerging; FcaFormer, fcaformer.py PatchMerging; "
    "group norm: Ren et al. 2023 (SG-Former), arXiv:2308.12216, sgformer.py PatchMerging",
    settings={
        "activation": one_of("gelu", "relu", "silu", default="gelu"),
        "norm": one_of("batch", "group", default="batch"),
    },
)
class MBConvDownsample(nn.Module):
    """BN(P2 act(BN(DW act(BN(P1 x))))): P1 to the new width, DW depth-wise 3x3 of stride 2; no biases.

    With `norm` group the three norms are group norms of one group (SG-Former).
    """

    def __init__(self, in_width: int, width: int, *, activation: str = "gelu", norm: str = "batch") -> None:
        super().__init__()
        first, last = parts.convolutions([in_width, width, width], [1, 1], kernel=1)
        depthwise = nn.Conv2d(width, width, 3, 2, padding=1, groups=width, bias=False)
        self.convs = nn.ModuleList((first, depthwise, last))
        self.norms = nn.ModuleList(parts.own_norm(norm, width, 1e-5) for _ in range(3))
        self.acts = nn.ModuleList(ACTIVATIONS[name]() for name in (activation, activation, "none"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        x = x.permute(0, 3, 1, 2)
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(x)))
        return x.permute(0, 2, 3, 1)


def reference(module: MBConvDownsample, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return parts.naive_convolutions(module.convs, module.norms, module.acts, x)
