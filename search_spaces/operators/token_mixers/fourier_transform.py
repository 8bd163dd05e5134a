"""The real part of the Fourier transform over positions and channels: token mixing without weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas.search_spaces.registry import Group, Kind, flag, register


@register(
    "fourier_transform",
    Kind.TOKEN_MIXER,
    group=Group.FREQUENCY,
    cite=(
        "Lee-Thorp et al. 2021 (FNet), arXiv:2105.03824, eq. 3; Tuli et al. 2022 (FlexiBERT), arXiv:2205.11656, "
        "linear transform DFT; compared with rishikksh20/FNet-pytorch fnet.py FNetBlock"
    ),
    settings={"orthonormal": flag(True)},
)
class FourierTransform(nn.Module):
    """Re(F_N x F_C): x (N, C) in raster order, F_n the n x n matrix of the discrete Fourier transform. No parameters.

    With orthonormal=False it is not divided by sqrt(N C), as in the published code, whose next norm undoes the factor; here a
    residual follows, which would drown.

    Computed by a real FFT. Exported, and in less than 32 bits, by products with real matrices (`by_products`), which every
    format runs: ONNX Runtime's DFT is 6 to 35 times slower than they are and off by up to 1e-3. MACs N C log2(N C), those of
    the FFT, for which `macs` stands; the products on a map of H x W have N C (2 H + 4 W + 2 C), which no count of MACs shows.
    """

    columns: Tensor
    rows: Tensor
    phase: Tensor
    channels: Tensor

    def __init__(self, width: int, size: int, *, orthonormal: bool = True) -> None:
        super().__init__()
        self.size, self.orthonormal = size, orthonormal
        dtype = torch.get_default_dtype()
        columns, rows, phase = plan(size, size, orthonormal, dtype)
        cosine, sine = waves(width, orthonormal)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("phase", phase, persistent=False)
        self.register_buffer("channels", torch.cat((cosine, sine)).to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if torch.compiler.is_exporting() or x.dtype not in (torch.float32, torch.float64):
            return self.by_products(x)
        tokens, norm = x.flatten(1, 2), "ortho" if self.orthonormal else "backward"
        y: Tensor = SelfAdjoint.apply(tokens, norm) if tokens.requires_grad else real_spectrum(tokens, norm)
        return y.view(x.shape)

    def by_products(self, x: Tensor) -> Tensor:
        """The same: over columns, then over rows with a phase of 2 pi j k / N between (Cooley and Tukey), then channels."""
        batch, height, width, channels = x.shape
        columns, rows, phase = self.columns, self.rows, self.phase
        if (height, width) != (self.size, self.size):
            columns, rows, phase = (part.to(x) for part in plan(height, width, self.orthonormal, x.dtype))
        y = (columns @ x.reshape(batch, height, width * channels)).view(batch, 2, height, width, channels)
        real, imaginary = y.unbind(1)
        cosine, sine = phase.unbind(0)
        y = torch.stack((real * cosine + imaginary * sine, imaginary * cosine - real * sine), dim=2)
        y = (rows @ y.view(batch, height, 2 * width, channels)).view(batch, height, 2, width, channels)
        y = y.permute(0, 3, 1, 2, 4).reshape(batch, height, width, 2 * channels)
        return y @ self.channels


class SelfAdjoint(torch.autograd.Function):
    """`real_spectrum` with its gradient, which is itself: the real part of the matrix is symmetric.

    Torch's gradient of a real transform makes a complex map of all frequencies, of four times the memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: str) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        ctx.norm = norm
        return real_spectrum(x, norm)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(B, N, C) -> (B, N, C), and nothing for the norm."""
        return SelfAdjoint.apply(gradients[0], ctx.norm), None


def real_spectrum(x: Tensor, norm: str) -> Tensor:
    """The real part of the transform of real x (B, N, C) along both axes: half is computed, half is its mirror image."""
    half = torch.view_as_real(torch.fft.rfft2(x, norm=norm))[..., 0]
    mirrored = half[:, :, 1 : (x.shape[2] + 1) // 2].flip(1, 2).roll(1, 1)
    return torch.cat((half, mirrored), dim=2)


def waves(length: int, orthonormal: bool) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi j k / length, (length, length) each, in double precision."""
    index = torch.arange(length)
    angle = (index[:, None] * index % length).double() * (2 * math.pi / length)
    scale = length**-0.5 if orthonormal else 1.0
    return angle.cos() * scale, angle.sin() * scale


def plan(height: int, width: int, orthonormal: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The transform over columns (2 H, H), of a real map; over rows (2 W, 2 W), real parts first; the phases (2, H, W, 1)."""
    cosine, sine = waves(height, orthonormal)
    columns = torch.cat((cosine, -sine))
    cosine, sine = waves(width, orthonormal)
    rows = torch.cat((torch.cat((cosine, sine), 1), torch.cat((-sine, cosine), 1)))
    angle = (torch.arange(height)[:, None] * torch.arange(width)).double() * (2 * math.pi / (height * width))
    phase = torch.stack((angle.cos(), angle.sin()))[..., None]
    return columns.to(dtype), rows.to(dtype), phase.to(dtype)


def macs(width: int, size: int, *, orthonormal: bool = True) -> int:
    """Multiply-adds of one map by the FFT; by products there are size^2 width (6 size + 2 width)."""
    points = size**2 * width
    return round(points * math.log2(max(points, 2)))


def reference(module: FourierTransform, x: Tensor) -> Tensor:
    """Frequency by frequency of the raster sequence, as sums over all positions and channels."""
    positions, channels = x.shape[1] * x.shape[2], x.shape[3]
    place, channel = torch.arange(positions)[:, None], torch.arange(channels)
    out = []
    for k in range(positions):
        for c in range(channels):
            angle = 2 * math.pi * (k * place / positions + c * channel / channels)
            out.append((x.flatten(1, 2) * angle.to(x.dtype).cos()).sum((1, 2)))
    y = torch.stack(out, dim=1).view(x.shape)
    return y / math.sqrt(positions * channels) if module.orthonormal else y
