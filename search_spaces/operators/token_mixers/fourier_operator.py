"""A small complex network on every frequency of a map: the adaptive Fourier neural operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators.token_mixers.global_filter import dft_matrices
from nas.search_spaces.registry import Group, Kind, Setting, register

SHRINK = 0.01
"""The threshold below which a coefficient becomes 0, as in the official code."""

BLOCKS = Setting(
    (8, 4, 2, 1),
    rule=lambda v, place: int(v) >= 1 and place.width % int(v) == 0,
    because="blocks divide the channels",
)
EXPANSION = Setting(
    (1, 2), rule=lambda v, place: 1 <= int(v) <= 8, because="the hidden layer is 1 to 8 times as wide", default=1
)


@register(
    "fourier_operator",
    Kind.TOKEN_MIXER,
    group=Group.FREQUENCY,
    cite="Guibas et al. 2022 (AFNO), arXiv:2111.13587, section 4; official afno/afno2d.py AFNO2D",
    settings={"blocks": BLOCKS, "expansion": EXPANSION},
)
class FourierOperator(nn.Module):
    """x + irfft2(shrink(MLP(rfft2(x)))): orthonormal transforms, a two-layer complex MLP with ReLU on both parts.

    The channels are cut in `blocks`, each with its own layers of C / blocks channels, the same for all frequencies, so the
    weights belong to no map size. shrink moves every real and imaginary part towards 0 by SHRINK. As in the official code the
    mixer adds its own input, besides the residual around it; all frequencies are kept (its default fraction of 1).

    The transforms are products with DFT matrices as in `global_filter`, and a complex layer is one real product of twice the
    width. With F = W // 2 + 1, b = C / blocks: MACs C (4 H W F + 8 H^2 F) + 8 H F C b expansion.
    """

    rows: Tensor
    columns: Tensor
    back: Tensor

    def __init__(self, width: int, size: int, *, blocks: int, expansion: int = 1) -> None:
        super().__init__()
        self.size = size
        depth = width // blocks
        self.weight_in = nn.Parameter(torch.randn(2, blocks, depth, depth * expansion) * 0.02)
        self.bias_in = nn.Parameter(torch.randn(2, blocks, depth * expansion) * 0.02)
        self.weight_out = nn.Parameter(torch.randn(2, blocks, depth * expansion, depth) * 0.02)
        self.bias_out = nn.Parameter(torch.randn(2, blocks, depth) * 0.02)
        rows, columns, back = dft_matrices(size, size, torch.get_default_dtype())
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        rows, columns, back = self.rows, self.columns, self.back
        if (height, width) != (self.size, self.size):
            rows, columns, back = (matrix.to(x) for matrix in dft_matrices(height, width, x.dtype))
        y = (columns @ x).view(batch, 2 * height, -1)
        spectrum = (rows @ y).view(batch, height, 2, -1, channels)
        changed = self._changed(spectrum).reshape(batch, 2 * height, -1)
        return x + back @ (rows.t() @ changed).view(batch, height, -1, channels)

    def _changed(self, spectrum: Tensor) -> Tensor:
        """What becomes of the spectrum (B, H, 2, F, C), real and imaginary parts along the third dimension."""
        mixed = complex_layer(blocked(spectrum, self.bias_in.shape[1]), self.weight_in, self.bias_in).relu()
        return F.softshrink(unblocked(complex_layer(mixed, self.weight_out, self.bias_out), spectrum), SHRINK)


def blocked(spectrum: Tensor, blocks: int) -> Tensor:
    """(B, H, 2, F, C) -> (blocks, B * H * F, 2 * C / blocks), the real parts first."""
    parts = spectrum.unflatten(-1, (blocks, -1)).permute(4, 0, 1, 3, 2, 5)
    return parts.reshape(blocks, -1, 2 * parts.shape[-1])


def unblocked(y: Tensor, like: Tensor) -> Tensor:
    """The inverse of `blocked`, with the shape of `like`."""
    batch, height, _, half, _ = like.shape
    parts = y.view(y.shape[0], batch, height, half, 2, -1).permute(1, 2, 4, 3, 0, 5)
    return parts.reshape(like.shape)


def complex_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b in each block, as one real product: (blocks, P, 2 n), (2, blocks, n, m), (2, blocks, m) -> (blocks, P, 2 m)."""
    real, imaginary = weight.unbind(0)
    both = torch.cat((torch.cat((real, imaginary), -1), torch.cat((-imaginary, real), -1)), dim=-2)
    return torch.baddbmm(torch.cat(bias.unbind(0), -1)[:, None], x, both)


def macs(width: int, size: int, *, blocks: int, expansion: int = 1) -> int:
    """Multiply-adds of one map."""
    half = size // 2 + 1
    return 12 * size**2 * half * width + 8 * size * half * width * (width // blocks) * expansion


def reference(module: FourierOperator, x: Tensor) -> Tensor:
    """Frequency by frequency, the transforms as sums over all pixels."""
    return x + over_spectrum(x, lambda re, im: naive_network(module, re, im))


def naive_network(module: FourierOperator, re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
    """The complex MLP and the shrinking on one frequency, block by block, output by output: twice (B, C)."""
    outputs: list[list[Tensor]] = [[], []]
    _, blocks, depth, hidden = module.weight_in.shape
    for b in range(blocks):
        values = torch.complex(re[:, b * depth : (b + 1) * depth], im[:, b * depth : (b + 1) * depth])
        for weight, bias, width in (
            (module.weight_in, module.bias_in, hidden),
            (module.weight_out, module.bias_out, depth),
        ):
            matrix = torch.complex(weight[0, b], weight[1, b])
            offset = torch.complex(bias[0, b], bias[1, b])
            values = torch.stack([(values * matrix[:, o]).sum(-1) + offset[o] for o in range(width)], dim=-1)
            if weight is module.weight_in:
                values = torch.complex(values.real.clamp(min=0), values.imag.clamp(min=0))
        for part, found in zip((values.real, values.imag), outputs, strict=True):
            found.append(torch.where(part.abs() > SHRINK, part - SHRINK * part.sign(), 0.0))
    return torch.cat(outputs[0], dim=-1), torch.cat(outputs[1], dim=-1)


def over_spectrum(x: Tensor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The map (B, H, W, C) from its orthonormal spectrum after `change` of each frequency's parts, twice (B, C)."""
    _, height, width, _ = x.shape
    out = torch.zeros_like(x)
    for u in range(height):
        for v in range(width // 2 + 1):
            angle = torch.tensor(
                [[2 * math.pi * (u * i / height + v * j / width) for j in range(width)] for i in range(height)], dtype=x.dtype
            )[..., None]
            scale = 1 / math.sqrt(height * width)
            re, im = (x * angle.cos()).sum((1, 2)) * scale, -(x * angle.sin()).sum((1, 2)) * scale
            re, im = (part[:, None, None] for part in change(re, im))
            share = 1 if v == 0 or 2 * v == width else 2
            out = out + share * scale * (re * angle.cos() - im * angle.sin())
    return out
