"""Downsampling by an inverted bottleneck with squeeze and excitation, beside a shortcut of means."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_reference
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register


@register(
    "residual_mbconv",
    Kind.DOWNSAMPLE,
    cite="Dai et al. 2021 (CoAtNet), arXiv:2106.04803, appendix A.1; Tu et al. 2022 (MaxViT), arXiv:2204.01697, figure 2; timm "
    "maxxvit.py MbConvBlock, Downsample2d",
    settings={
        "ratio": Setting((4, 2), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide"),
        "activation": one_of("gelu", "silu", "relu", "gelu_tanh", default="gelu"),
        "even": flag(False),
        "eps": Setting((1e-5, 1e-3), lambda v, place: 0 < float(v) <= 0.01, "eps is above 0 and at most 0.01", 1e-5),
    },
)
class ResidualMBConv(nn.Module):
    """P(mean of 2x2 patches) + P2 S act(BN(DW act(BN(P1 BN(x))))): DW depth-wise 3x3 of stride 2, S squeeze and excitation.

    The hidden layer has ratio times the new width, S a quarter of the new width inside, with SiLU. P1 and DW have no biases; P
    is left out where the width stays. With `even` (MaxViT) DW pads as TensorFlow does: at the right and the bottom only where
    the map is even. A mean at the edge of an odd map is that of the pixels there are.
    """

    def __init__(
        self, in_width: int, width: int, *, ratio: int, activation: str = "gelu", even: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        hidden = ratio * width
        self.even = even
        self.shortcut = nn.Conv2d(in_width, width, 1) if in_width != width else None
        self.norm, self.expand = nn.BatchNorm2d(in_width, eps=eps), nn.Conv2d(in_width, hidden, 1, bias=False)
        self.expand_norm, self.depthwise_norm = nn.BatchNorm2d(hidden, eps=eps), nn.BatchNorm2d(hidden, eps=eps)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, 2, padding=0 if even else 1, groups=hidden, bias=False)
        self.squeeze = SqueezeExcite(hidden, max(width // 4, 1), act="silu")
        self.reduce = nn.Conv2d(hidden, width, 1)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        x = x.permute(0, 3, 1, 2)
        y = self.act(self.expand_norm(self.expand(self.norm(x))))
        y = self.act(self.depthwise_norm(self.depthwise(parts.even_padded(y) if self.even else y)))
        y = self.reduce(self.squeeze(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        out: Tensor = (y + halved(x, self.shortcut)).permute(0, 2, 3, 1)
        return out


def halved(x: Tensor, shortcut: nn.Module | None) -> Tensor:
    """The means of 2x2 patches, brought to the new width: (B, C, H, W) -> (B, C', H/2, W/2), odd sizes rounded up."""
    means = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    out: Tensor = means if shortcut is None else shortcut(means)
    return out


def naive_halved(x: Tensor, shortcut: nn.Conv2d | None) -> Tensor:
    """Patch by patch, channels last."""
    rows = [
        torch.stack([x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, x.shape[2], 2)], dim=1)
        for i in range(0, x.shape[1], 2)
    ]
    means = torch.stack(rows, dim=1)
    return means if shortcut is None else naive.conv2d(shortcut, means)


def reference(module: ResidualMBConv, x: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    y = naive.conv2d(module.expand, naive.batch_norm(module.norm, x))
    y = naive_activation(module.act, naive.batch_norm(module.expand_norm, y))
    y = naive.conv2d(module.depthwise, parts.naive_even_padded(y) if module.even else y)
    y = naive_activation(module.act, naive.batch_norm(module.depthwise_norm, y))
    y = naive.conv2d(module.reduce, squeeze_reference(module.squeeze, y))
    return y + naive_halved(x, module.shortcut)
