"""Stem of 3x3 convolutions of one width, with group norms."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, one_of, register


@register(
    "even_convs",
    Kind.STEM,
    cite="Ren et al. 2023 (SG-Former), arXiv:2308.12216, official sgformer.py Head",
    settings={
        "stride": parts.HALVINGS,
        "activation": one_of("gelu", "relu", "silu", default="gelu"),
        "inner_norm": one_of("group", "batch", default="group"),
    },
)
class EvenConvs(nn.Module):
    """3x3 convolutions to C channels each, of strides 2, 1, 2 at stride 4, and another pair 1, 2 for each further halving.

    Each has a norm and no bias, and all but the last an activation. SG-Former's norms are group norms of one group.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, activation: str = "gelu", inner_norm: str = "group"
    ) -> None:
        super().__init__()
        strides = [2, *[1, 2] * (stride.bit_length() - 2)]
        self.convs = parts.convolutions([in_channels, *[width] * len(strides)], strides)
        self.norms = nn.ModuleList(parts.own_norm(inner_norm, width, 1e-5) for _ in strides)
        self.acts = nn.ModuleList(ACTIVATIONS[name]() for name in (*[activation] * (len(strides) - 1), "none"))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            image = act(norm(conv(image)))
        return image.permute(0, 2, 3, 1)


def reference(module: EvenConvs, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return parts.naive_convolutions(module.convs, module.norms, module.acts, image.permute(0, 2, 3, 1))
