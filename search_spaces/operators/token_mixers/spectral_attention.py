"""Attention among the low frequencies of a map: cosine transform, attention, inverse transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "spectral_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.FREQUENCY,
    cite="Ranjbar et al. 2024 (DCT-HistoTransformer), arXiv:2410.19166, DCT-Attention; no official code found",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (4, 2, 1),
            rule=lambda v, place: 1 <= int(v) <= place.size,
            because="one frequency in `reduction` is kept along each axis: 1 <= reduction <= map size",
        ),
    },
)
class SpectralAttention(nn.Module):
    """idct(out(softmax(q k^T / sqrt(d)) v)) of the lowest frequencies of dct(x), which are the tokens; the others become 0.

    Of H x W frequencies of the orthonormal two-dimensional DCT-II the first h x w = ceil(H / reduction) x ceil(W / reduction)
    are kept. The transforms are products with cosine matrices. The biases act on every kept frequency. With n = h w: MACs
    4 n C^2 + 2 n^2 C + 2 C (H W h + W h w).
    """

    basis: Tensor

    def __init__(self, width: int, size: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction, self.size = heads, reduction, size
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.register_buffer("basis", cosines(size, reduction, torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        rows, columns = (self._basis(length, x) for length in (height, width))
        kept = (rows @ x.reshape(batch, height, width * channels)).view(batch, -1, width, channels)
        tokens = (columns @ kept).flatten(1, 2)
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.q, self.k, self.v))
        mixed = self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        wide = (columns.t() @ mixed.view(batch, rows.shape[0], columns.shape[0], channels)).flatten(2)
        return (rows.t() @ wide).view(x.shape)

    def _basis(self, length: int, x: Tensor) -> Tensor:
        """The kept rows of the transform of one axis: stored for the size that the module was built for."""
        return self.basis if length == self.size else cosines(length, self.reduction, x.dtype).to(x.device)


def cosines(length: int, reduction: int, dtype: torch.dtype) -> Tensor:
    """The first ceil(length / reduction) rows of the orthonormal DCT-II matrix."""
    frequency = torch.arange(-(-length // reduction), dtype=torch.float64)[:, None]
    place = torch.arange(length, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi / length * frequency * place) * math.sqrt(2 / length)
    return torch.where(frequency == 0, matrix / math.sqrt(2), matrix).to(dtype)


def macs(width: int, size: int, *, heads: int, reduction: int) -> int:
    """Multiply-adds of one map."""
    kept = -(-size // reduction)
    return 4 * kept**2 * width**2 + 2 * kept**4 * width + 2 * width * (size**2 * kept + size * kept**2)


def reference(module: SpectralAttention, x: Tensor) -> Tensor:
    """Frequency by frequency, each with its own wave."""
    _, height, width, _ = x.shape
    waves = []
    for row in range(-(-height // module.reduction)):
        for column in range(-(-width // module.reduction)):
            down = [math.cos(math.pi * row * (i + 0.5) / height) for i in range(height)]
            right = [math.cos(math.pi * column * (j + 0.5) / width) for j in range(width)]
            wave = torch.tensor([[a * b for b in right] for a in down], dtype=x.dtype)
            waves.append((wave / (wave * wave).sum().sqrt())[..., None])
    tokens = [(x * wave).sum((1, 2)) for wave in waves]
    heads = (module.heads, x.shape[3] // module.heads)
    q, k, v = ([naive.linear(f, t).view(-1, *heads) for t in tokens] for f in (module.q, module.k, module.v))
    mixed = [naive.linear(module.out, naive.attend(query, k, v).flatten(1)) for query in q]
    return torch.stack([token[:, None, None] * wave for token, wave in zip(mixed, waves, strict=True)]).sum(0)
