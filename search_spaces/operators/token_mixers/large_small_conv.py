"""Large-small convolution: a large static kernel perceives, and decides the small kernels that aggregate each position."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "large_small_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Wang et al. 2025 (LSNet), arXiv:2503.23135, section 3.2; official model/lsnet.py LKP, LSConv, model/ska.py ska_fwd",
    settings={
        "kernel": Setting(
            (3, 5, 7, 9),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size and place.width % 2 == 0,
            because="a kernel is odd, at least 3, and reaches a pixel: kernel // 2 < map size; the channels are even",
        ),
        "small": Setting(
            (3, 5),
            rule=lambda v, place: int(v) % 2 == 1 and 3 <= int(v) <= int(place.chosen["kernel"]),
            because="the small kernel is odd, at least 3, and not larger than the large one",
        ),
        "sharing": Setting(
            (16, 8, 4),
            rule=lambda v, place: 1 <= int(v) <= place.width and place.width % int(v) == 0,
            because="the channels that share a kernel divide all channels",
            default=8,
        ),
    },
)
class LargeSmallConv(nn.Module):
    """norm(sum over the small kernel's taps t of w_t(p) x(p + t)), where w = group_norm(taps(perceive(x))) at each position p.

    perceive: linear to C / 2, ReLU, depth-wise kernel x kernel, linear, ReLU, each with batch norm. Channel c uses kernel c mod
    C / sharing; the group norm has one group for each kernel, over its taps and the whole map. Outside the map x is 0.
    Differs from the official LSConv in not adding x, which the block's residual does.

    The official aggregation is a Triton kernel; here it is a sum of small^2 shifted products, so no gathered copy of the
    neighbourhoods is kept. N = H W, L the kernel, k the small one, g the sharing. MACs, its element-wise products with w not
    counted: N (3/4 C^2 + C L^2 / 2 + k^2 C^2 / (2 g)).
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {
        "taps": (1, 2),
        "taps_bias": (1, 2),
        "taps_scale": (1, 2),
        "taps_shift": (1, 2),
    }

    def __init__(self, width: int, size: int, *, kernel: int, small: int, sharing: int = 8) -> None:
        super().__init__()
        half, kernels = width // 2, width // sharing
        self.reduce = nn.Conv2d(width, half, 1, bias=False)
        self.large = nn.Conv2d(half, half, kernel, padding=kernel // 2, groups=half, bias=False)
        self.mix = nn.Conv2d(half, half, 1, bias=False)
        self.reduce_norm, self.large_norm, self.mix_norm = (nn.BatchNorm2d(half) for _ in range(3))
        self.taps = nn.Parameter(torch.empty(kernels, small, small, half))
        self.taps_bias = nn.Parameter(torch.zeros(kernels, small, small))
        self.taps_scale = nn.Parameter(torch.ones(kernels, small, small))
        self.taps_shift = nn.Parameter(torch.zeros(kernels, small, small))
        nn.init.trunc_normal_(self.taps, std=half**-0.5)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        image = x.permute(0, 3, 1, 2).contiguous()
        y: Tensor = self.norm(aggregate(image, self._kernels(image)))
        return y.permute(0, 2, 3, 1)

    def _kernels(self, image: Tensor) -> Tensor:
        """The small kernels of each position: (B, C, H, W) -> (B, C / sharing, small, small, H, W)."""
        hidden = F.relu(self.reduce_norm(self.reduce(image)))
        hidden = F.relu(self.mix_norm(self.mix(self.large_norm(self.large(hidden)))))
        taps = F.conv2d(hidden, self.taps.flatten(0, 2)[..., None, None], self.taps_bias.flatten())
        taps = F.group_norm(taps, self.taps.shape[0], self.taps_scale.flatten(), self.taps_shift.flatten())
        return taps.unflatten(1, self.taps.shape[:3])


def aggregate(image: Tensor, kernels: Tensor) -> Tensor:
    """Sum over the taps of kernel c mod K times the shifted channel c: (B, C, H, W), (B, K, k, k, H, W) -> (B, C, H, W)."""
    height, width, small = *image.shape[2:], kernels.shape[2]
    padded = F.pad(image, (small // 2,) * 4).unflatten(1, (-1, kernels.shape[1]))
    shifted = (
        padded[..., u : u + height, v : v + width] * kernels[:, None, :, u, v] for u in range(small) for v in range(small)
    )
    total = next(shifted)
    for part in shifted:
        total = total + part
    return total.flatten(1, 2)


def macs(width: int, size: int, *, kernel: int, small: int, sharing: int = 8) -> int:
    """Multiply-adds on a size x size map."""
    half = width // 2
    return size**2 * half * (width + kernel**2 + half + small**2 * (width // sharing))


def reference(module: LargeSmallConv, x: Tensor) -> Tensor:
    """Position by position and tap by tap, with the group norm written out."""
    hidden = naive.batch_norm(module.reduce_norm, naive.conv2d(module.reduce, x)).clamp(min=0)
    hidden = naive.batch_norm(module.large_norm, naive.conv2d(module.large, hidden))
    hidden = naive.batch_norm(module.mix_norm, naive.conv2d(module.mix, hidden)).clamp(min=0)
    taps = torch.einsum("bijc,kuvc->bijkuv", hidden, module.taps) + module.taps_bias
    centred = taps - taps.mean((1, 2, 4, 5), keepdim=True)
    taps = centred / ((centred**2).mean((1, 2, 4, 5), keepdim=True) + 1e-5).sqrt() * module.taps_scale + module.taps_shift
    rows = [torch.stack([_aggregated(x, taps[:, i, j], i, j) for j in range(x.shape[2])], dim=1) for i in range(x.shape[1])]
    return naive.batch_norm(module.norm, torch.stack(rows, dim=1))


def _aggregated(x: Tensor, taps: Tensor, row: int, column: int) -> Tensor:
    """One position under its kernels (B, K, k, k): (B, C)."""
    repeats, reach = x.shape[-1] // taps.shape[1], taps.shape[-1] // 2
    out = torch.zeros_like(x[:, 0, 0])
    for i in range(max(row - reach, 0), min(row + reach + 1, x.shape[1])):
        for j in range(max(column - reach, 0), min(column + reach + 1, x.shape[2])):
            out = out + x[:, i, j] * taps[:, :, i - row + reach, j - column + reach].repeat(1, repeats)
    return out
