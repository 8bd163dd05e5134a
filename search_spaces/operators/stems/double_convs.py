"""Stem of pairs of 3x3 convolutions, the first of each pair of stride 2."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, flag, one_of, register


@register(
    "double_convs",
    Kind.STEM,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087, official overlock.py stem; with biases: Fan et al. 2024 (RMT), "
    "arXiv:2309.11523, official RMT.py PatchEmbed",
    settings={
        "stride": parts.HALVINGS,
        "activation": one_of("gelu", "relu", "silu", default="gelu"),
        "eps": parts.eps_of(),
        "bias": flag(False),
    },
)
class DoubleConvs(nn.Module):
    """For each halving a 3x3 convolution of stride 2 and one of stride 1, to C / 2, C / 2, C, C channels at stride 4.

    Each has a batch norm, all but the last an activation, and with `bias` (RMT, PPMA) a bias.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, activation: str = "gelu", eps: float = 1e-5, bias: bool = False
    ) -> None:
        super().__init__()
        steps = stride.bit_length() - 1
        widths = [channels for channels in parts.doubling(width, steps) for _ in range(2)]
        self.convs = parts.convolutions([in_channels, *widths], [2, 1] * steps, bias=bias)
        self.norms = parts.batch_norms(widths, eps)
        self.acts = nn.ModuleList(ACTIVATIONS[name]() for name in (*[activation] * (2 * steps - 1), "none"))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            image = act(norm(conv(image)))
        return image.permute(0, 2, 3, 1)


def reference(module: DoubleConvs, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    return parts.naive_convolutions(module.convs, module.norms, module.acts, image.permute(0, 2, 3, 1))
