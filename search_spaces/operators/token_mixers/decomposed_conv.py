"""Decomposed convolution: details amplified, then two receptive fields side by side, each with channel attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import convolved, normed, reaches
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_macs, squeeze_reference
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

EPSILON = 1e-6


@register(
    "decomposed_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Pay et al. 2025 (SpaRTAN), arXiv:2507.10999, SMixer; official henry-pay/SpaRTAN spartan.py SMixer",
    settings={
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) >= 3 and reaches(int(v), 1, place) and place.width % 8 == 0,
            because=(
                "a kernel is odd, at least 3, and its outermost taps reach a pixel (kernel // 2 < map size); "
                "8 divides the channels, of which an eighth is left in the squeeze"
            ),
        ),
        "dilation": Setting(
            (1, 2, 3),
            rule=lambda v, place: int(v) >= 1 and reaches(int(place.chosen["kernel"]), int(v), place),
            because="the outermost taps reach a pixel: kernel // 2 * dilation < map size",
        ),
        "dense": flag(False),
    },
)
class DecomposedConv(nn.Module):
    """project([S(near(z)), S'(far(z))]), z = u + detail * (u - mean of u over the map), u = reduce(x) to C / 2 channels.

    near is a convolution, a batch norm and GELU; far is a dilated convolution followed by another one with norm and GELU; S
    squeeze and excitation to an eighth of C. Convolutions have no bias and are depth-wise, or with `dense` between all C / 2
    channels (the first half of SpaRTAN's stages; kernel 3 and dilation 2 in all). `detail` is learned for each channel and
    starts at 1e-5. With M = C / 2, N = H W: MACs N (C M + 3 kernel^2 M g + C^2) + M C / 2, g = 1 or with `dense` M.
    """

    def __init__(self, width: int, size: int, *, kernel: int, dilation: int, dense: bool = False) -> None:
        super().__init__()
        half = width // 2
        self.reduce = nn.Linear(width, half)
        self.detail = nn.Parameter(torch.full((half,), 1e-5))
        self.near = _conv(half, kernel, 1, dense)
        self.near_norm = nn.BatchNorm2d(half, eps=EPSILON)
        self.far_first = _conv(half, kernel, dilation, dense)
        self.far = _conv(half, kernel, dilation, dense)
        self.far_norm = nn.BatchNorm2d(half, eps=EPSILON)
        self.act = nn.GELU()
        self.near_squeeze = SqueezeExcite(half, half // 4)
        self.far_squeeze = SqueezeExcite(half, half // 4)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        u = self.reduce(x)
        z = (u + self.detail * (u - u.mean((1, 2), keepdim=True))).permute(0, 3, 1, 2)
        near = self.act(normed(self.near, self.near_norm, z)).permute(0, 2, 3, 1)
        far = self.act(normed(self.far, self.far_norm, convolved(self.far_first, z))).permute(0, 2, 3, 1)
        y: Tensor = self.project(torch.cat((self.near_squeeze(near), self.far_squeeze(far)), dim=-1))
        return y


def _conv(width: int, kernel: int, dilation: int, dense: bool) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=1 if dense else width, bias=False)


def reference(module: DecomposedConv, x: Tensor) -> Tensor:
    """Layer by layer, the convolutions tap by tap."""
    u = naive.linear(module.reduce, x)
    mean = u.flatten(1, 2).sum(1) / (u.shape[1] * u.shape[2])
    z = u + module.detail * (u - mean[:, None, None])
    near = naive.gelu(naive.batch_norm(module.near_norm, naive.conv2d(module.near, z)))
    far = naive.conv2d(module.far, naive.conv2d(module.far_first, z))
    far = naive.gelu(naive.batch_norm(module.far_norm, far))
    parts = (squeeze_reference(module.near_squeeze, near), squeeze_reference(module.far_squeeze, far))
    return naive.linear(module.project, torch.cat(parts, dim=-1))


def macs(width: int, size: int, *, kernel: int, dilation: int, dense: bool = False) -> int:
    """Multiply-adds for one image."""
    half = width // 2
    convolutions = 3 * kernel**2 * half * (half if dense else 1)
    return size**2 * (width * half + convolutions + width**2) + 2 * squeeze_macs(half, half // 4)
