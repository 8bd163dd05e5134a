"""The perceptron with a global response norm on its hidden layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, Setting, flag, register


@register(
    "grn_mlp",
    Kind.CHANNEL_MIXER,
    family="mlp",
    cite="Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808, section 3 and algorithm 1; convolution: Lou and Yu 2025 (OverLoCK), "
    "arXiv:2502.20087, official overlock.py RepConvBlock and DynamicConvBlock",
    settings={
        "expansion": EXPANSION,
        "conv": flag(False),
        "carried": Setting((0, 4), lambda v, place: 0 <= int(v) < place.width, "less channels are carried than there are", 0),
    },
)
class ResponseMLP(nn.Module):
    """W2 grn(gelu(W1 x)), with grn(h) = h + scale * h * |h| / (mean over channels of |h| + 1e-6) + shift.

    |h| is the root of the sum of squares of a channel over the whole map. `conv` adds its depth-wise 3x3 convolution to the
    hidden layer before the norm (OverLoCK), whose focus net does not count the `carried` channels of its context in the width
    of that layer. Scale and shift start at 0. With hidden width E = expansion * (C - carried): parameters 2 C E + 3 E + C (and
    10 E for the convolution), MACs H W (2 C E + 9 E), the last only with the convolution.
    """

    symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (
            ("expand.weight", 0),
            ("expand.bias", 0),
            ("conv.weight", 0),
            ("conv.bias", 0),
            ("response_scale", 0),
            ("response_shift", 0),
            ("reduce.weight", 1),
        ),
    )

    def __init__(self, width: int, size: int, *, expansion: int, conv: bool = False, carried: int = 0) -> None:
        super().__init__()
        hidden = expansion * (width - carried)
        self.expand = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if conv else None
        self.response_scale = nn.Parameter(torch.zeros(hidden))
        self.response_shift = nn.Parameter(torch.zeros(hidden))
        self.reduce = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        hidden = self.act(self.expand(x))
        if self.conv is not None:
            hidden = hidden + self.conv(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        strength = torch.linalg.vector_norm(hidden, dim=(1, 2), keepdim=True)
        gain = 1 + self.response_scale * (strength / (strength.mean(-1, keepdim=True) + 1e-6))
        out: Tensor = self.reduce(torch.addcmul(self.response_shift, hidden, gain))
        return out


def reference(module: ResponseMLP, x: Tensor) -> Tensor:
    """Image by image."""
    hidden = naive.gelu(naive.linear(module.expand, x))
    if module.conv is not None:
        hidden = hidden + naive.conv2d(module.conv, hidden)
    normed = []
    for image in hidden:
        strength = (image**2).sum((0, 1)).sqrt()
        response = strength / (strength.mean() + 1e-6)
        normed.append(image + module.response_scale * image * response + module.response_shift)
    return naive.linear(module.reduce, torch.stack(normed))


def macs(width: int, size: int, *, expansion: int, conv: bool = False, carried: int = 0) -> int:
    """Multiply-adds on a size x size map: H W (2 C E + 9 E), the last only with the convolution."""
    return size**2 * expansion * (width - carried) * (2 * width + (9 if conv else 0))
