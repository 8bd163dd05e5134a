"""Stem of four 3x3 convolutions with a narrow middle."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, one_of, register


@register(
    "deep_conv",
    Kind.STEM,
    cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, table 3; official nextvit.py NextViT.stem and PatchEmbed",
    settings={
        "stride": Setting(
            (2, 4), rule=lambda v, place: v in (2, 4), because="the first and the last convolution may have stride 2"
        ),
        "inner": Setting(
            (0, 32, 64), rule=lambda v, place: v == 0 or int(v) >= 8, because="inner is 0 (the width) or at least 8", default=0
        ),
        "activation": one_of("relu", "gelu", "silu", default="relu"),
        "eps": parts.eps_of(),
    },
)
class DeepConv(nn.Module):
    """3x3 convolutions to I, I / 2, I, I channels, strides 2, 1, 1 and stride / 2, each with batch norm and activation.

    I is the width; where `inner` gives another number, a pointwise convolution without bias and a batch norm lead from I to the
    width: Next-ViT's stem is 64, 32, 64, 64, and its first block begins with that change to 96 channels.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, inner: int = 0, activation: str = "relu", eps: float = 1e-5
    ) -> None:
        super().__init__()
        last = inner or width
        widths = [last, max(last // 2, 1), last, last]
        self.convs = parts.convolutions([in_channels, *widths], [2, 1, 1, stride // 2])
        self.norms = parts.batch_norms(widths, eps)
        self.acts = nn.ModuleList(nn.ReLU(inplace=True) if activation == "relu" else ACTIVATIONS[activation]() for _ in widths)
        self.project = nn.Conv2d(last, width, 1, bias=False) if inner else None
        self.norm = parts.own_norm("batch" if inner else "none", width, eps)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            image = act(norm(conv(image)))
        return parts.finish(self.norm, image if self.project is None else self.project(image))


def reference(module: DeepConv, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x = parts.naive_convolutions(module.convs, module.norms, module.acts, image.permute(0, 2, 3, 1))
    if module.project is None:
        return x
    return parts.naive_norm(module.norm, x @ module.project.weight[:, :, 0, 0].mT)
