"""Input-dependent depth-wise convolution: for each image and channel a mixture of a few learned kernels."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.token_mixers.attentive_conv import convolve_images, convolve_maps, convolve_naively
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "dynamic_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Lou et al. 2023 (TransXNet, IDConv), arXiv:2310.19380, section 3.3; official models/transxnet.py DynamicConv2d",
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "mixtures": Setting((2, 3, 4), rule=lambda v, place: 2 <= int(v) <= 64, because="from 2 to 64 kernels are mixed"),
        "bottleneck": Setting(
            (8, 4, 2),
            rule=lambda v, place: 1 <= int(v) <= place.width,
            because="the channels divided by the bottleneck are at least 1",
            default=4,
        ),
        "bias": flag(True),
    },
)
class DynamicConv(nn.Module):
    """x under the depth-wise kernels sum_g a_g W_g, where a = softmax over the G mixtures of s(pool(x)).

    `pool` averages x over a kernel x kernel grid (adaptive pooling), so each tap of each channel has shares of its own;
    s = score(gelu(norm(reduce(.)))) with C / bottleneck hidden channels. The bias is mixed likewise, by s of the map's mean: in
    training its batch norm sees two batches a step, as in the official code. The official code's last layer of G C outputs is
    here one layer for each mixture, so that networks of different width share them. With R = C // bottleneck and k the kernel,
    MACs: N C k^2 + (k^2 + 1) C R (G + 1), without `bias` k^2 in place of k^2 + 1.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"kernels": (2, 3)}

    def __init__(self, width: int, size: int, *, kernel: int, mixtures: int, bottleneck: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.kernel, hidden = kernel, width // bottleneck
        self.kernels = nn.Parameter(torch.empty(mixtures, width, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(mixtures, width)) if bias else None
        for parameter in (self.kernels, self.bias):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        self.reduce, self.norm = nn.Linear(width, hidden, bias=False), nn.BatchNorm2d(hidden)
        self.score = nn.ModuleList(nn.Linear(hidden, width) for _ in range(mixtures))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        by_planes = self.training or torch.compiler.is_exporting()
        image = x.permute(0, 3, 1, 2)
        image = image.contiguous() if by_planes else image
        shares = self._shares(F.adaptive_avg_pool2d(image, self.kernel))
        kernels = (shares.permute(0, 1, 4, 2, 3) * self.kernels).sum(1)
        bias = None
        if self.bias is not None:
            bias = (self._shares(image.mean((2, 3), keepdim=True))[:, :, 0, 0] * self.bias).sum(1)
        if by_planes:
            return convolve_images(image, kernels, bias).permute(0, 2, 3, 1)
        return convolve_maps(x, kernels, bias)

    def _shares(self, pooled: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, G, h, w, C)."""
        hidden = self.norm(self.reduce(pooled.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        hidden = F.gelu(hidden.permute(0, 2, 3, 1))
        return torch.stack([score(hidden) for score in self.score], dim=1).softmax(dim=1)


def macs(width: int, size: int, *, kernel: int, mixtures: int, bottleneck: int = 4, bias: bool = True) -> int:
    """Multiply-adds on a size x size map."""
    hidden = width // bottleneck
    return size**2 * width * kernel**2 + (kernel**2 + int(bias)) * width * hidden * (mixtures + 1)


def reference(module: DynamicConv, x: Tensor) -> Tensor:
    """Cell by cell of the pooled grid, mixture by mixture."""
    shares = _shares_of(module, pool_naively(x, module.kernel, module.kernel))
    taps = sum(shares[g].permute(0, 3, 1, 2) * module.kernels[g] for g in range(len(shares)))
    y = convolve_naively(x, cast(Tensor, taps))
    if module.bias is None:
        return y
    shares = _shares_of(module, pool_naively(x, 1, 1))
    return y + cast(Tensor, sum(shares[g] * module.bias[g] for g in range(len(shares))))


def pool_naively(x: Tensor, rows: int, columns: int) -> Tensor:
    """The means over the cells of a grid, which overlap where it does not divide the map: (B, rows, columns, C)."""
    spans = [
        [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
        for length, count in zip(x.shape[1:3], (rows, columns), strict=True)
    ]
    means = [
        torch.stack(
            [x[:, top:bottom, left:right].sum((1, 2)) / ((bottom - top) * (right - left)) for left, right in spans[1]], 1
        )
        for top, bottom in spans[0]
    ]
    return torch.stack(means, dim=1)


def _shares_of(module: DynamicConv, pooled: Tensor) -> list[Tensor]:
    """The share of each mixture, for (B, h, w, C)."""
    hidden = naive.gelu(naive.batch_norm(module.norm, naive.linear(module.reduce, pooled)))
    scores = [naive.linear(cast(nn.Linear, score), hidden) for score in module.score]
    powers = [score.exp() for score in scores]
    return [power / sum(powers) for power in powers]
