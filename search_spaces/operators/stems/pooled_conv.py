"""The stem of residual networks: one large or three small convolutions, then max pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "pooled_conv",
    Kind.STEM,
    cite="He et al. 2016, arXiv:1512.03385, table 1; tiered: Bello et al. 2021, arXiv:2103.07579, ResNet-D stem, as in timm "
    "byobnet.py Stem (HaloNet, arXiv:2103.12731)",
    settings={
        "stride": Setting(
            (2, 4), rule=lambda v, place: v in (2, 4), because="the convolutions halve the map, and the pooling may too"
        ),
        "layout": one_of("single", "tiered", "deep", default="single"),
        "activation": one_of("relu", "silu", "gelu", default="relu"),
    },
)
class PooledConv(nn.Module):
    """Convolutions with batch norm and activation, the first of stride 2; at stride 4 then a 3x3 max pooling of stride 2.

    `single`: one 7x7 convolution (ResNet). `tiered`: 3x3 ones to 3/8 C, C / 2, C (HaloNet in timm); `deep`: to C, C, C.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int, layout: str = "single", activation: str = "relu") -> None:
        super().__init__()
        widths = stem_widths(width, layout)
        strides = [2, *[1] * (len(widths) - 1)]
        self.convs = parts.convolutions([in_channels, *widths], strides, kernel=7 if layout == "single" else 3)
        self.norms = parts.batch_norms(widths)
        self.acts = nn.ModuleList(ACTIVATIONS[activation]() for _ in widths)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if stride == 4 else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            image = act(norm(conv(image)))
        maps: Tensor = self.pool(image).permute(0, 2, 3, 1)
        return maps


def stem_widths(width: int, layout: str) -> list[int]:
    """The channels of each convolution."""
    if layout == "tiered":
        return [3 * width // 8, width // 2, width]
    return [width] * (1 if layout == "single" else 3)


def reference(module: PooledConv, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap; the largest of the nine values that are inside the map."""
    x = parts.naive_convolutions(module.convs, module.norms, module.acts, image.permute(0, 2, 3, 1))
    if isinstance(module.pool, nn.Identity):
        return x
    rows = []
    for i in range(0, x.shape[1], 2):
        near = [x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] for j in range(0, x.shape[2], 2)]
        rows.append(torch.stack([window.amax((1, 2)) for window in near], dim=1))
    return torch.stack(rows, dim=1)
