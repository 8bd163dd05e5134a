"""High-frequency mixer: the maximum of the neighbourhood on half of the channels, a separable convolution on the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import reaches
from nas.search_spaces.registry import Group, Kind, Setting, register


class HighFrequency(nn.Module):
    """[gelu(DW(expand(first half of x))), gelu(project(maximum of the second half over kernel x kernel pixels))].

    `expand` and the depth-wise convolution have no bias, `project` has; each part has C channels, all together 2 C.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.expand = nn.Linear(width // 2, width, bias=False)
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.project = nn.Linear(width // 2, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, 2 C)."""
        first, second = x.chunk(2, dim=-1)
        convolved = self.depthwise(self.expand(first).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        pooled = F.max_pool2d(second.permute(0, 3, 1, 2), self.kernel, 1, self.kernel // 2).permute(0, 2, 3, 1)
        y: Tensor = self.act(torch.cat((convolved, self.project(pooled)), dim=-1))
        return y


@register(
    "high_frequency_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Si et al. 2022 (Inception Transformer), arXiv:2205.12956, section 3; official sail-sg/iFormer HighMixer and Mixer",
    settings={
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) >= 3 and reaches(int(v), 1, place) and place.width % 2 == 0,
            because="channels are even; a kernel is odd, at least 3, and its outermost taps on the map: kernel // 2 < map size",
        ),
    },
)
class HighFrequencyConv(nn.Module):
    """project(u + fuse(u)), u the 2 C channels of `HighFrequency`, fuse a depth-wise 3 x 3 convolution without bias.

    The official Mixer without a low-frequency part, which `frequency_split` has. MACs N (3 C^2 + C (kernel^2 + 18)):
    C / 2 to C twice, 2 C to C, and the depth-wise ones.
    """

    def __init__(self, width: int, size: int, *, kernel: int) -> None:
        super().__init__()
        self.high = HighFrequency(width, kernel)
        self.fuse = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width, bias=False)
        self.project = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        u = self.high(x)
        y: Tensor = self.project(u + self.fuse(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return y


def high_reference(module: HighFrequency, x: Tensor) -> Tensor:
    """The convolution tap by tap, the maximum pixel by pixel over what lies on the map."""
    first, second = x.split(x.shape[-1] // 2, dim=-1)
    convolved = naive.conv2d(module.depthwise, naive.linear(module.expand, first))
    reach, lines = module.kernel // 2, []
    for i in range(x.shape[1]):
        rows = second[:, max(i - reach, 0) : i + reach + 1]
        lines.append(
            torch.stack([rows[:, :, max(j - reach, 0) : j + reach + 1].amax((1, 2)) for j in range(x.shape[2])], dim=1)
        )
    pooled = naive.linear(module.project, torch.stack(lines, dim=1))
    return torch.cat((naive.gelu(convolved), naive.gelu(pooled)), dim=-1)


def reference(module: HighFrequencyConv, x: Tensor) -> Tensor:
    """Layer by layer."""
    u = high_reference(module.high, x)
    return naive.linear(module.project, u + naive.conv2d(module.fuse, u))


def high_macs(width: int, size: int, kernel: int) -> int:
    """Multiply-adds of `HighFrequency` for one image."""
    return size**2 * (2 * (width // 2) * width + kernel**2 * width)


def macs(width: int, size: int, *, kernel: int) -> int:
    """Multiply-adds for one image."""
    return high_macs(width, size, kernel) + size**2 * (18 * width + 2 * width**2)
