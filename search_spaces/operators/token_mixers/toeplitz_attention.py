"""Kernelised attention with a relative-position bias, which on large maps is applied with Fourier transforms."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.token_mixers.performer_attention import (
    FEATURES,
    exponents,
    naive_exponents,
    orthogonal_rows,
)
from nas.search_spaces.registry import Group, Kind, flag, register


@register(
    "toeplitz_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Luo et al. 2021 (NPRF-Transformer with RPE), arXiv:2106.12566, section 3, eq. 9-11; no official code found",
    settings={"heads": HEADS, "features": FEATURES, "normalised": flag(True)},
)
class ToeplitzAttention(nn.Module):
    """sum_j c_{i-j} (phi(q_i) phi(k_j)) v_j / (sum_j c_{i-j} phi(q_i) phi(k_j) + 1e-8), phi as in `performer_attention`.

    c = exp(toeplitz_bias), one number a head for each offset along both axes; offsets that the table lacks take its edge's.
    With `normalised`, q and k have length 1, which keeps the estimate's variance bounded (theorem 3 of the paper), else both
    are divided by d^(1/4). The features are a parameter, as in `performer_attention`.

    c is block-Toeplitz: on a map of 2 H x 2 W, padded with zeros, its product with the M (d + 1) values phi(k_j) (v_j, 1) of a
    head is one of spectra, O(M C N log N) as in the paper. Up to some thousand positions the N x N scores are cheaper, and
    the result is the same: the cheaper way is taken. MACs 4 N C^2 + 2 N M C + N^2 (heads M + C), or with P = 4 N, V = M (C +
    heads): 4 N C^2 + 3 N M C + N heads M + 2 V P log2 P + heads P log2 P.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"toeplitz_bias": (0, 1)}

    def __init__(self, width: int, size: int, *, heads: int, features: int, normalised: bool = True) -> None:
        super().__init__()
        self.heads, self.normalised = heads, normalised
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.random_features = nn.Parameter(orthogonal_rows(features, width // heads))
        self.toeplitz_bias = nn.Parameter(torch.empty(2 * size - 1, 2 * size - 1, heads))
        nn.init.trunc_normal_(self.toeplitz_bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        _, height, width, channels = x.shape
        tokens = x.flatten(1, 2)
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.q, self.k, self.v))
        scale = (channels // self.heads) ** -0.25
        q, k = (F.normalize(part, dim=-1) if self.normalised else part * scale for part in (q, k))
        q, k = (exponents(part, self.random_features) for part in (q, k))
        q = (q - q.detach().amax(-1, keepdim=True)).exp()
        k = (k - k.detach().amax((-2, -1), keepdim=True)).exp()
        factors = self._factors(height, width)
        if transforms_are_cheaper(height * width, q.shape[-1], v.shape[-1]):
            mixed = by_transforms(q, k, v, factors)
        else:
            mixed = by_scores(q, k, v, factors)
        out: Tensor = self.out(join_heads(mixed)).view(x.shape)
        return out

    def _factors(self, height: int, width: int) -> Tensor:
        """c for the offsets 1 - H .. H - 1 and 1 - W .. W - 1: (heads, 2 H - 1, 2 W - 1)."""
        reach = self.toeplitz_bias.shape[0] // 2
        device = self.toeplitz_bias.device
        rows, columns = ((torch.arange(1 - n, n, device=device) + reach).clamp(0, 2 * reach) for n in (height, width))
        return self.toeplitz_bias.index_select(0, rows).index_select(1, columns).exp().permute(2, 0, 1)


def transforms_are_cheaper(positions: int, features: int, depth: int) -> bool:
    """Whether spectra of features (depth + 1) maps of 4 N points take less time than N x N scores, as timed on a CPU."""
    return positions * (features + depth) > 32 * features * (depth + 1) * math.log2(4 * positions)


def by_scores(q: Tensor, k: Tensor, v: Tensor, factors: Tensor) -> Tensor:
    """The quadratic form: q, k (B, heads, N, M), v (B, heads, N, d), factors (heads, 2 H - 1, 2 W - 1) -> as v."""
    height, width = (length // 2 + 1 for length in factors.shape[1:])
    rows, columns = (
        torch.arange(n, device=q.device)[:, None] - torch.arange(n, device=q.device) + n - 1 for n in (height, width)
    )
    index = rows[:, None, :, None] * (2 * width - 1) + columns[None, :, None, :]
    spread = factors.flatten(1).index_select(1, index.flatten()).view(-1, height * width, height * width)
    weights = q @ k.transpose(-1, -2) * spread
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-8)


def by_transforms(q: Tensor, k: Tensor, v: Tensor, factors: Tensor) -> Tensor:
    """The same by circular convolution: each feature's values and its own sum are spread over the map with c."""
    height, width = (length // 2 + 1 for length in factors.shape[1:])
    shape = (2 * height, 2 * width)
    values = torch.cat((v, torch.ones_like(v[..., :1])), dim=-1)
    maps = (k[..., None] * values[..., None, :]).permute(0, 1, 3, 4, 2).unflatten(-1, (height, width))
    kernel = F.pad(factors, (1, 0, 1, 0)).roll((height, width), (1, 2))
    c, d = torch.view_as_real(torch.fft.rfft2(kernel))[:, None, None].unbind(-1)
    a, b = torch.view_as_real(torch.fft.rfft2(F.pad(maps, (0, width, 0, height)))).unbind(-1)
    spectrum = torch.view_as_complex(torch.stack((a * c - b * d, a * d + b * c), dim=-1))
    spread = torch.fft.irfft2(spectrum, s=shape)[..., :height, :width].flatten(-2).permute(0, 1, 4, 2, 3)
    mixed = (q[..., None, :] @ spread).squeeze(-2)
    return mixed[..., :-1] / (mixed[..., -1:] + 1e-8)


def macs(width: int, size: int, *, heads: int, features: int, normalised: bool = True) -> int:
    """Multiply-adds of one map."""
    length, depth = size**2, width // heads
    common = 4 * length * width**2 + 2 * length * features * width
    if not transforms_are_cheaper(length, features, depth):
        return common + length**2 * (heads * features + width)
    maps, points = features * (width + heads), 4 * length
    transforms = 2 * round(maps * points * math.log2(points)) + round(heads * points * math.log2(points))
    return common + length * maps + transforms


def reference(module: ToeplitzAttention, x: Tensor) -> Tensor:
    """Query by query with explicit weights over all keys."""
    _, height, width, channels = x.shape
    heads, depth = module.heads, channels // module.heads
    places = [(i, j) for i in range(height) for j in range(width)]
    tokens = x.flatten(1, 2).unbind(1)
    q, k, v = ([naive.linear(f, t).view(-1, heads, depth) for t in tokens] for f in (module.q, module.k, module.v))
    if module.normalised:
        q, k = ([part / part.pow(2).sum(-1, keepdim=True).sqrt() for part in parts] for parts in (q, k))
    else:
        q, k = ([part / depth**0.25 for part in parts] for parts in (q, k))
    queries, keys = ([naive_exponents(part, module.random_features) for part in parts] for parts in (q, k))
    largest = torch.stack(keys).amax((0, 3)).detach()[..., None]
    reach = module.toeplitz_bias.shape[0] // 2
    out = []
    for query, (i, j) in zip(queries, places, strict=True):
        phi = torch.exp(query - query.amax(-1, keepdim=True).detach())
        weights = []
        for key, (y, z) in zip(keys, places, strict=True):
            row, column = (min(max(offset, -reach), reach) + reach for offset in (i - y, j - z))
            factor = torch.exp(module.toeplitz_bias[row, column])
            weights.append(((phi * torch.exp(key - largest)).sum(-1) * factor)[..., None])
        mixed = (torch.stack(weights) * torch.stack(v)).sum(0) / (torch.stack(weights).sum(0) + 1e-8)
        out.append(naive.linear(module.out, mixed.flatten(1)))
    return torch.stack(out, dim=1).view(x.shape)
