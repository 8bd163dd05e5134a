"""Attention without softmax, whose cost grows linearly with the number of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.token_mixers.global_filter import between
from nas.search_spaces.registry import Group, Kind, Setting, flag, one_of, register


@register(
    "linear_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite=(
        "Guo et al. 2024 (SLAB), arXiv:2405.11582, section 3.3, official slab_swin.py SimplifiedLinearAttention; "
        "Katharopoulos et al. 2020, arXiv:2006.16236, eq. 4-6; Qin et al. 2022 (cosFormer), arXiv:2202.08791, eq. 10, "
        "official cosformer.py CosformerAttention"
    ),
    settings={
        "heads": HEADS,
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: v == 0 or (int(v) % 2 == 1 and 0 < int(v) // 2 < place.size),
            because="a kernel is 0 (none), or odd, at least 3, with its outermost taps on the map: kernel // 2 < map size",
        ),
        "feature": one_of("relu", "elu", "cosine", default="relu"),
        "window": Setting(
            (0, 7, 14),
            rule=lambda v, place: v == 0 or max(2, int(place.chosen["kernel"]) // 2 + 1) <= int(v) <= place.size,
            because="a window is 0 (the whole map), or at least 2, reached by the kernel's outermost taps, and on the map",
            default=0,
        ),
        "position": flag(False),
    },
)
class LinearAttention(nn.Module):
    """phi(q) (phi(k + P)^T v) / (phi(q) sum_n phi(k_n + P_n) + 1e-6) + DW(v), out of which a last projection.

    phi is relu (SLAB), elu + 1, or cosFormer's, relu times the cosine and sine of pi n / (2 N) for the n-th of N positions in
    raster order, so that near positions weigh more; there the sum is not enlarged by 1e-6 but at least it, as in its code.
    DW is a depth-wise kernel x kernel convolution with d = C / heads channels, shared by the heads; kernel 0 leaves it out. All
    of it works on the whole map or inside windows, whose last ones are padded with what has no weight. With `position`, P is
    learned for each place of the window or map, as in SLAB, and interpolated where that has another size. SLAB's are
    kernel 5 with position, cosFormer's kernel 0.

    With N = H W, f = 2 for cosine else 1: parameters 4 (C^2 + C) + d (kernel^2 + 1), MACs
    4 N C^2 + f (2 N C d + N C) + N C kernel^2, where all but the first counts the padded positions too.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        heads: int,
        kernel: int,
        feature: str = "relu",
        window: int = 0,
        position: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.feature, self.window, depth = heads, feature, window, width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.conv = nn.Conv2d(depth, depth, kernel, padding=kernel // 2, groups=depth) if kernel else None
        side = window or size
        self.key_position = nn.Parameter(torch.randn(side, side, width) * 0.02) if position else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, _ = x.shape
        rows, columns = (min(self.window or length, length) for length in (height, width))
        q, k, v = (cut(f(x), rows, columns) for f in (self.q, self.k, self.v))
        if self.key_position is not None:
            k = k + resized(self.key_position, rows, columns)
        q, k = (self._features(part.flatten(1, 2)) for part in (q, k))
        if height % rows or width % columns:
            k = k * cut(torch.ones_like(x[:, :, :, :1]), rows, columns).flatten(1, 2)[:, None]
        state = k.transpose(-1, -2) @ split_heads(v.flatten(1, 2), self.heads)
        total = q @ k.sum(-2, keepdim=True).transpose(-1, -2)
        total = total.clamp(min=1e-6) if self.feature == "cosine" else total + 1e-6
        mixed = join_heads(q @ state * total.reciprocal()).view(v.shape)
        if self.conv is not None:
            mixed = mixed + self._local(self.conv, v)
        out: Tensor = self.out(uncut(mixed, batch, height, width))
        return out

    def _features(self, x: Tensor) -> Tensor:
        """phi in each head: (B, N, C) -> (B, heads, N, d), or 2 d for cosine."""
        if self.feature == "elu":
            return F.elu(split_heads(x, self.heads)) + 1
        x = split_heads(F.relu(x), self.heads)
        if self.feature == "relu":
            return x
        length = x.shape[2]
        angle = torch.arange(1, length + 1, device=x.device).to(x.dtype)[:, None] * (math.pi / 2 / length)
        return torch.cat((x * angle.sin(), x * angle.cos()), dim=-1)

    def _local(self, conv: nn.Conv2d, v: Tensor) -> Tensor:
        """The convolution of each head's channels: (B, H, W, C) -> (B, H, W, C)."""
        weight, bias = conv.weight.repeat(self.heads, 1, 1, 1), None if conv.bias is None else conv.bias.repeat(self.heads)
        local = F.conv2d(v.permute(0, 3, 1, 2), weight, bias, padding=conv.padding, groups=v.shape[3])
        return local.permute(0, 2, 3, 1)


def cut(x: Tensor, rows: int, columns: int) -> Tensor:
    """The map (B, H, W, C) in windows (B * windows, rows, columns, C), the last ones padded with zeros."""
    if x.shape[1:3] == (rows, columns):
        return x
    x = F.pad(x, (0, 0, 0, -x.shape[2] % columns, 0, -x.shape[1] % rows))
    x = x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)
    return x.reshape(-1, rows, columns, x.shape[-1])


def uncut(x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """The inverse of `cut`: from windows to the map (B, H, W, C)."""
    if x.shape[:3] == (batch, height, width):
        return x
    down, right = -(-height // x.shape[1]), -(-width // x.shape[2])
    x = x.view(batch, down, right, *x.shape[1:]).transpose(2, 3).reshape(batch, down * x.shape[1], -1, x.shape[3])
    return x[:, :height, :width]


def resized(table: Tensor, rows: int, columns: int) -> Tensor:
    """A table (S, S, C) at the centres of rows x columns places, linearly interpolated."""
    for dim, length in enumerate((rows, columns)):
        if table.shape[dim] != length:
            where = (torch.arange(length, dtype=torch.float64) + 0.5) * (table.shape[dim] / length) - 0.5
            table = between(table, where, dim)
    return table


def macs(
    width: int,
    size: int,
    *,
    heads: int,
    kernel: int,
    feature: str = "relu",
    window: int = 0,
    position: bool = False,
) -> int:
    """Multiply-adds of one map."""
    side = min(window or size, size)
    padded = (-(-size // side) * side) ** 2
    share = 2 if feature == "cosine" else 1
    return 4 * size**2 * width**2 + padded * width * (share * (2 * (width // heads) + 1) + kernel**2)


def reference(module: LinearAttention, x: Tensor) -> Tensor:
    """Window by window, query by query, with explicit weights over all keys: the quadratic form."""
    rows, columns = (min(module.window or length, length) for length in x.shape[1:3])
    out = torch.zeros_like(x)
    for top in range(0, x.shape[1], rows):
        for left in range(0, x.shape[2], columns):
            part = x[:, top : top + rows, left : left + columns]
            out[:, top : top + rows, left : left + columns] = _within(module, part, rows, columns)
    return out


def _within(module: LinearAttention, x: Tensor, rows: int, columns: int) -> Tensor:
    """One window, which may be cut by the edge of the map, of the full size rows x columns."""
    heads, count = (module.heads, x.shape[3] // module.heads), rows * columns
    places = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]
    q, k = naive.linear(module.q, x), naive.linear(module.k, x)
    if module.key_position is not None:
        k = k + torch.stack(
            [
                torch.stack([naive_resized(module.key_position, i, j, rows, columns) for j in range(x.shape[2])])
                for i in range(x.shape[1])
            ]
        )
    q, k = (torch.where(p > 0, p + (module.feature == "elu"), p.exp() * (module.feature == "elu")) for p in (q, k))
    values = naive.linear(module.v, x).view(*x.shape[:3], *heads)
    out = []
    for i, j in places:
        weights = []
        for y, z in places:
            weight = (q[:, i, j].view(-1, *heads) * k[:, y, z].view(-1, *heads)).sum(-1, keepdim=True)
            if module.feature == "cosine":
                weight = weight * math.cos(math.pi / 2 * ((i - y) * columns + j - z) / count)
            weights.append(weight)
        total = sum(weights, torch.zeros_like(weights[0]))
        total = total.clamp(min=1e-6) if module.feature == "cosine" else total + 1e-6
        mixed = sum((w * values[:, y, z] for w, (y, z) in zip(weights, places, strict=True)), torch.zeros_like(values[:, 0, 0]))
        out.append((mixed / total).flatten(1))
    result = torch.stack(out, dim=1).view(x.shape)
    if module.conv is not None:
        conv = module.conv
        result = result + torch.cat([naive.conv2d(conv, part) for part in values.unbind(-2)], dim=-1)
    return naive.linear(module.out, result)


def naive_resized(table: Tensor, row: int, column: int, rows: int, columns: int) -> Tensor:
    """One place of a table (S, S, C) that is interpolated to rows x columns: (C,)."""
    y, z = ((n + 0.5) * s / m - 0.5 for n, s, m in ((row, table.shape[0], rows), (column, table.shape[1], columns)))
    y, z = min(max(y, 0.0), table.shape[0] - 1.0), min(max(z, 0.0), table.shape[1] - 1.0)
    total = torch.zeros_like(table[0, 0])
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            total = total + table[i, j] * max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(z - j))
    return total
