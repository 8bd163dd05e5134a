"""Multi-head convolution: a grouped convolution, each group a head, and a pointwise layer that mixes the heads."""

from __future__ import annotations

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.convolution import kernels, normed
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register


@register(
    "grouped_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Li et al. 2022 (Next-ViT), arXiv:2207.05501, section 3.2; timm nextvit.py ConvAttention",
    settings={
        "head_width": Setting(
            (8, 16, 32),
            rule=lambda v, place: int(v) >= 1 and place.width % int(v) == 0,
            because="heads of head_width channels divide the channels",
        ),
        "kernel": kernels(3, 5, 7, default=3),
        "act": one_of("relu", "gelu", "silu", "hardswish", default="relu"),
    },
)
class GroupedConv(nn.Module):
    """project(act(norm(conv(x)))): conv in groups of head_width channels, batch norm, pointwise projection, no biases.

    The paper calls it multi-head convolutional attention; nothing in it depends on pairs of positions. Next-ViT has heads of 32
    channels, kernel 3 and ReLU. MACs N (kernel^2 head_width C + C^2). In a supernet a narrower network keeps its first heads.
    """

    def __init__(self, width: int, size: int, *, head_width: int, kernel: int = 3, act: str = "relu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width // head_width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation(act)
        self.project = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mixed = self.act(normed(self.conv, self.norm, x.permute(0, 3, 1, 2)))
        y: Tensor = self.project(mixed.permute(0, 2, 3, 1))
        return y


def reference(module: GroupedConv, x: Tensor) -> Tensor:
    """Layer by layer, the convolution tap by tap."""
    mixed = naive.batch_norm(module.norm, naive.conv2d(module.conv, x))
    return naive.linear(module.project, naive_activation(module.act, mixed))


def macs(width: int, size: int, *, head_width: int, kernel: int = 3, act: str = "relu") -> int:
    """Multiply-adds for one image."""
    return size**2 * width * (kernel**2 * head_width + width)
