"""Attentive convolution: a depth-wise kernel computed for each image and channel, with lateral inhibition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

LARGE = 2**16
"""An image of more values is convolved alone: it fills a cache."""


@register(
    "attentive_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Yu et al. 2025 (AttNet, ATConv), arXiv:2510.20092; official models/AttNet.py ATConv",
    settings={
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "inhibition": flag(True),
        "bias": flag(True),
    },
)
class AttentiveConv(nn.Module):
    """out(K * value(x)), with K = w - sigmoid(gamma) mean(w) and w = taps(gelu(pool(key(x)))) for each image and channel.

    `pool` averages the map, flattened row by row, over kernel^2 raster bands (adaptive one-dimensional pooling), and `taps` is
    a linear layer from the bands to the taps that all channels share. So a tap comes from a band of rows, not from a cell of a
    kernel x kernel grid, as in the official code: flips of the image are not flips of the kernel. Without `inhibition`, K = w.
    MACs: N (3 C^2 + C kernel^2) + C kernel^4.
    """

    def __init__(self, width: int, size: int, *, kernel: int, inhibition: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.kernel = kernel
        self.key, self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.taps = nn.Linear(kernel**2, kernel**2, bias=bias)
        self.gamma = nn.Parameter(torch.zeros(width)) if inhibition else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if self.training or torch.compiler.is_exporting():
            taps = self._kernels(to_planes(self.key, x).flatten(2))
            return to_channels_last(self.out, convolve_images(to_planes(self.value, x), taps))
        taps = self._kernels(self.key(x).flatten(1, 2).transpose(1, 2))
        y: Tensor = self.out(convolve_maps(self.value(x), taps))
        return y

    def _kernels(self, key: Tensor) -> Tensor:
        """The taps of each image and channel: (B, C, N) -> (B, C, kernel, kernel)."""
        taps = self._inhibited(self.taps(F.gelu(F.adaptive_avg_pool1d(key, self.kernel**2))))
        return taps.unflatten(-1, (self.kernel, self.kernel))

    def _inhibited(self, taps: Tensor) -> Tensor:
        """Less their mean where they have `gamma`: (B, C, kernel^2) -> (B, C, kernel^2)."""
        return taps if self.gamma is None else taps - self.gamma.sigmoid()[:, None] * taps.mean(-1, keepdim=True)


def to_planes(layer: nn.Linear, x: Tensor) -> Tensor:
    """The linear layer, put out channel by channel: (B, H, W, C) -> contiguous (B, C', H, W), without a transposed copy."""
    batch, height, width, _ = x.shape
    weight, pixels = layer.weight.expand(batch, -1, -1), x.flatten(1, 2).transpose(1, 2)
    y = weight @ pixels if layer.bias is None else torch.baddbmm(layer.bias[:, None], weight, pixels)
    return y.unflatten(-1, (height, width))


def to_channels_last(layer: nn.Linear, image: Tensor) -> Tensor:
    """The linear layer, put out pixel by pixel: (B, C, H, W) -> contiguous (B, H, W, C'), without a transposed copy."""
    batch, _, height, width = image.shape
    weight, pixels = layer.weight.t().expand(batch, -1, -1), image.flatten(2).transpose(1, 2)
    y = pixels @ weight if layer.bias is None else torch.baddbmm(layer.bias, pixels, weight)
    return y.unflatten(1, (height, width))


def convolve_images(images: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
    """Each image under depth-wise kernels of its own: (B, C, H, W), (B, C, k, k) and (B, C) -> (B, C, H, W)."""
    batch, channels, height, width = images.shape
    kernels, bias = taps.flatten(0, 1).unsqueeze(1), None if bias is None else bias.flatten()
    flat = images.reshape(1, batch * channels, height, width)
    return F.conv2d(flat, kernels, bias, padding=taps.shape[-1] // 2, groups=batch * channels).view(images.shape)


def convolve_maps(x: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
    """`convolve_images` without bringing the map into another layout: (B, H, W, C), (B, C, k, k), (B, C) -> (B, H, W, C).

    The images lie side by side along the channels, which copies rows of C values only; of large ones each is convolved alone,
    which copies nothing. In training the gradient of so many kernels takes longer in this layout than the copies.
    """
    batch = x.shape[0]
    each = 1 if x[0].numel() > LARGE else batch
    offsets = [None] * batch if bias is None else bias.split(each)
    parts = zip(x.split(each), taps.split(each), offsets, strict=False)
    maps = [_side_by_side(*part) for part in parts]
    return maps[0] if len(maps) == 1 else torch.cat(maps)


def _side_by_side(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """All images in one convolution of B C channels."""
    batch, height, width, channels = x.shape
    wide = x.permute(1, 2, 0, 3).reshape(1, height, width, batch * channels).permute(0, 3, 1, 2)
    kernels, offset = taps.flatten(0, 1).unsqueeze(1), None if bias is None else bias.flatten()
    y = F.conv2d(wide, kernels, offset, padding=taps.shape[-1] // 2, groups=batch * channels)
    return y.permute(0, 2, 3, 1).unflatten(3, (batch, channels))[0].permute(2, 0, 1, 3)


def macs(width: int, size: int, *, kernel: int, inhibition: bool = True, bias: bool = True) -> int:
    """Multiply-adds on a size x size map."""
    return size**2 * (3 * width**2 + width * kernel**2) + width * kernel**4


def reference(module: AttentiveConv, x: Tensor) -> Tensor:
    """Band by band, then image by image and tap by tap."""
    count = module.kernel**2
    key, value = naive.linear(module.key, x).flatten(1, 2), naive.linear(module.value, x)
    length = key.shape[1]
    bands = []
    for band in range(count):
        first, last = band * length // count, -(-(band + 1) * length // count)
        bands.append(key[:, first:last].sum(1) / (last - first))
    taps = naive.linear(module.taps, naive.gelu(torch.stack(bands, dim=-1)))
    if module.gamma is not None:
        taps = taps - (taps.sum(-1) / count / (1 + torch.exp(-module.gamma)))[..., None]
    taps = taps.unflatten(-1, (module.kernel, module.kernel))
    return naive.linear(module.out, convolve_naively(value, taps))


def convolve_naively(x: Tensor, taps: Tensor) -> Tensor:
    """What `convolve_images` computes without bias, tap by tap: (B, H, W, C), (B, C, k, k) -> (B, H, W, C)."""
    reach, (height, width) = taps.shape[-1] // 2, x.shape[1:3]
    images = []
    for image, kernels in zip(x, taps, strict=True):
        padded = image.new_zeros(height + 2 * reach, width + 2 * reach, x.shape[-1])
        padded[reach : reach + height, reach : reach + width] = image
        out = torch.zeros_like(image)
        for u in range(2 * reach + 1):
            for v in range(2 * reach + 1):
                out = out + padded[u : u + height, v : v + width] * kernels[:, u, v]
        images.append(out)
    return torch.stack(images)
