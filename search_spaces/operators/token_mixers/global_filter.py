"""Global filter: the map's two-dimensional spectrum times a learned one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.registry import Group, Kind, register


@register(
    "global_filter",
    Kind.TOKEN_MIXER,
    group=Group.FREQUENCY,
    cite="Rao et al. 2021 (GFNet), arXiv:2107.00645, section 3.2; official gfnet.py GlobalFilter",
)
class GlobalFilter(nn.Module):
    """irfft2(rfft2(x) * W), each channel with its own complex W: a circular convolution as large as the map.

    W is stored as a real tensor (size, size // 2 + 1, C, 2). Along its first axis frequency 0 sits at index size // 2 and
    along its second at 0, so the centre of the one and the start of the other are the low frequencies: the filter of a
    smaller map is a crop of a larger map's. The official code keeps the order of the FFT and can only take the size it was
    built for; here W is interpolated for another H x W, linearly between equal frequencies in cycles a pixel.

    The transforms are products with DFT matrices, not FFTs: up to 28x28 they are as fast (1.3 times slower at 56x56, 3 times
    at 112x112, on one CPU thread), they run in every exported format, and unlike complex-to-real FFTs they do the same on
    every device when W makes the spectrum of a real map unsymmetric. Parameters: 2 H F C with F = W // 2 + 1.
    MACs: C (4 H W F + 8 H^2 F), and 4 H F C element-wise products that are not counted.
    """

    rows: Tensor
    columns: Tensor
    back: Tensor
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"filter": (0,)}

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.filter = nn.Parameter(torch.randn(size, size // 2 + 1, width, 2) * 0.02)
        rows, columns, back = dft_matrices(size, size, torch.get_default_dtype())
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        half = width // 2 + 1
        weight: Tensor = self.filter
        rows, columns, back = self.rows, self.columns, self.back
        if (height, width) != (self.size, self.size):
            rows, columns, back = (matrix.to(x) for matrix in dft_matrices(height, width, x.dtype))
            weight = resized(weight, height, half, width)
        real, imaginary = weight[..., 0], weight[..., 1]
        y = (columns @ x).view(batch, 2 * height, half * channels)
        a, b = (rows @ y).view(batch, height, 2, half, channels).unbind(2)
        y = torch.stack((a * real - b * imaginary, a * imaginary + b * real), dim=2).view(batch, 2 * height, half * channels)
        return back @ (rows.t() @ y).view(batch, height, 2 * half, channels)


def dft_matrices(height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The orthonormal DFT as real matrices, with the real and imaginary part of a number as two neighbouring rows.

    `rows` (2 H, 2 H): complex to complex, output frequencies -(H // 2) .. (H - 1) // 2; its transpose is its inverse.
    `columns` (2 F, W), all real parts first: real to complex, frequencies 0 .. W // 2 = F - 1. `back` (W, 2 F): its inverse.
    """
    frequencies = torch.arange(height, dtype=torch.float64) - height // 2
    angle = frequencies[:, None] * torch.arange(height, dtype=torch.float64) * (2 * math.pi / height)
    cosine, sine = angle.cos() / math.sqrt(height), angle.sin() / math.sqrt(height)
    rows = torch.stack((torch.stack((cosine, sine), -1), torch.stack((-sine, cosine), -1)), 1).view(2 * height, 2 * height)
    half = torch.arange(width // 2 + 1, dtype=torch.float64)
    angle = half[:, None] * torch.arange(width, dtype=torch.float64) * (2 * math.pi / width)
    columns = torch.cat((angle.cos(), -angle.sin())) / math.sqrt(width)
    alone = (half == 0) | (2 * half == width)
    back = (columns * torch.where(alone, 1.0, 2.0).to(columns).repeat(2)[:, None]).t().contiguous()
    return rows.to(dtype), columns.to(dtype), back.to(dtype)


def resized(weight: Tensor, height: int, half: int, width: int) -> Tensor:
    """The filter (size, size // 2 + 1, C, 2) at the frequencies of an H x W map: (H, half, C, 2)."""
    size = weight.shape[0]
    rows = (torch.arange(height, dtype=torch.float64) - height // 2) * (size / height) + size // 2
    return between(between(weight, rows, 0), torch.arange(half, dtype=torch.float64) * (size / width), 1)


def between(weight: Tensor, where: Tensor, dim: int) -> Tensor:
    """Linear interpolation of `weight` along `dim` at the fractional indices `where`, held constant outside."""
    where = where.to(weight).clamp(0, weight.shape[dim] - 1)
    low = where.floor().long()
    share = (where - low).view(-1, *(1,) * (weight.dim() - 1 - dim))
    high = (low + 1).clamp(max=weight.shape[dim] - 1)
    return weight.index_select(dim, low) * (1 - share) + weight.index_select(dim, high) * share


def macs(width: int, size: int) -> int:
    """Multiply-adds of one map."""
    return 12 * size**2 * (size // 2 + 1) * width


def reference(module: GlobalFilter, x: Tensor) -> Tensor:
    """The spectrum frequency by frequency, as sums over all pixels; then each pixel as a sum over all frequencies."""
    _, height, width, _ = x.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    out = torch.zeros_like(x)
    for u in range(-(height // 2), (height + 1) // 2):
        for v in range(width // 2 + 1):
            angles = torch.tensor([2 * math.pi * (u * i / height + v * j / width) for i, j in pixels], dtype=x.dtype)
            wave_re, wave_im = (f(angles).view(height, width, 1) for f in (torch.cos, torch.sin))
            re, im = (x * wave_re).sum((1, 2), keepdim=True), -(x * wave_im).sum((1, 2), keepdim=True)
            weight = _response(module.filter, u / height, v / width)
            re, im = re * weight[:, 0] - im * weight[:, 1], re * weight[:, 1] + im * weight[:, 0]
            share = (1 if v == 0 or 2 * v == width else 2) / (height * width)
            out = out + share * (re * wave_re - im * wave_im)
    return out


def _response(weight: Tensor, row: float, column: float) -> Tensor:
    """The filter (C, 2) at a frequency in cycles a pixel along each axis."""
    size = weight.shape[0]
    y = min(max(row * size + size // 2, 0.0), size - 1.0)
    z = min(column * size, weight.shape[1] - 1.0)
    top, left = int(y + 1e-9), int(z + 1e-9)
    below, right = min(top + 1, size - 1), min(left + 1, weight.shape[1] - 1)
    upper = weight[top, left] * (1 - z + left) + weight[top, right] * (z - left)
    lower = weight[below, left] * (1 - z + left) + weight[below, right] * (z - left)
    return upper * (1 - y + top) + lower * (y - top)
