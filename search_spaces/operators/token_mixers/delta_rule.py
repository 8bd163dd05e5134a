"""Linear attention that corrects what its state already says of a key: the delta rule, scanned over a map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.scan import DIRECTIONS, in_chunks, merged, naive_orders, scanned
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "delta_rule",
    Kind.TOKEN_MIXER,
    group=Group.RECURRENCE,
    cite=(
        "Yang et al. 2024 (DeltaNet), arXiv:2406.06484, section 3; Schlag et al. 2021, arXiv:2102.11174, eq. 23-25; "
        "official fla/layers/delta_net.py DeltaNet, fla/ops/delta_rule/naive.py"
    ),
    settings={
        "heads": HEADS,
        "directions": DIRECTIONS,
        "taps": Setting(
            (0, 4),
            rule=lambda v, place: 0 <= int(v) <= 8,
            because="the short convolution has 0 (none) to 8 taps",
            default=4,
        ),
    },
)
class DeltaRule(nn.Module):
    """S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T, y_t = S_t^T q_t / sqrt(d), in each direction; out(RMSNorm(sum of y)).

    q, k, v = silu(a causal depth-wise convolution of `taps` positions along the scan, of a projection without bias), q and k of
    length 1 in each head, b_t = sigmoid(beta(x_t)) for each head. The official layer is made for text: directions=1 is it, with
    the map read row by row; more directions share all weights and are summed before the norm, which is over each head's d
    channels. Directions: row by row, its reverse, column by column, its reverse.

    The scan runs in chunks of T positions, as in section 3.2 of the paper: inside a chunk (I + tril(b k k^T, -1))^-1 turns the
    corrections into matrix products, and only N / T steps are left. The inverse is built by doubling: blocks of 2, 4 ... T
    rows, each from the inverses of its halves. The last chunk is padded with b = k = 0, which leaves the state alone. T is the
    power of two at or above sqrt(N), at most 64. With M = T ceil(N / T), K directions: MACs 4 N C^2 + N C heads
    + K (M C (5 T + 3 d) - T d C + heads M (T^2 - 1) / 3).
    """

    def __init__(self, width: int, size: int, *, heads: int, directions: int, taps: int = 4) -> None:
        super().__init__()
        self.heads, self.directions = heads, directions
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.beta = nn.Linear(width, heads, bias=False)
        self.q_taps, self.k_taps, self.v_taps = (
            nn.Parameter((torch.rand(width, taps) * 2 - 1) / math.sqrt(taps)) if taps else None for _ in range(3)
        )
        self.norm = nn.RMSNorm(width // heads, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        pairs = ((self.q, self.q_taps), (self.k, self.k_taps), (self.v, self.v_taps))
        q, k, v = (self._by_head(F.silu(shortly(scanned(f(x), self.directions), taps))) for f, taps in pairs)
        q, k = (part * torch.rsqrt((part * part).sum(-1, keepdim=True) + 1e-6) for part in (q, k))
        beta = self._by_head(scanned(self.beta(x).sigmoid(), self.directions))
        y = delta_scan(q * q.shape[-1] ** -0.5, k, v, beta)
        y = y.unflatten(1, (self.directions, self.heads)).transpose(2, 3).flatten(-2)
        y = self.norm(merged(y, x.shape[1], x.shape[2]).unflatten(-1, (self.heads, -1)))
        out: Tensor = self.out(y.flatten(-2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, directions, N, heads * d) -> (B, directions * heads, N, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(1, 2)


def shortly(x: Tensor, taps: Tensor | None) -> Tensor:
    """Causal depth-wise convolution along dimension 2 of (B, K, N, C) with `taps` (C, n), the last of which is the present."""
    if taps is None:
        return x
    past, length = taps.shape[1] - 1, x.shape[2]
    padded = F.pad(x, (0, 0, past, 0))
    out = x * taps[:, past]
    for tap in range(past):
        out = out + padded[:, :, tap : tap + length] * taps[:, tap]
    return out


def chunk_of(length: int) -> int:
    """The power of two at or above the square root of the length, at most 64."""
    steps = 1
    while steps * steps < length and steps < 64:
        steps *= 2
    return steps


def delta_scan(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """The delta rule from S = 0 over N positions, in chunks: four times (B, G, N, d), beta (B, G, N, 1) -> (B, G, N, d)."""
    length = q.shape[2]
    steps = chunk_of(length)
    q, k, v, written = (in_chunks(part, steps) for part in (q, k, v * beta, k * beta))
    inverse = unit_inverse((written @ k.transpose(-1, -2)).tril(-1))
    values, forgotten = inverse @ v, inverse @ written
    scores = (q @ k.transpose(-1, -2)).tril()
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    out = []
    for query, key, value, forget, score in zip(*(part.unbind(2) for part in (q, k, values, forgotten, scores)), strict=True):
        seen, known = (torch.cat((query, forget), dim=2) @ state).split(steps, dim=2)
        new = value - known
        out.append(seen + score @ new)
        if len(out) < q.shape[2]:
            state = state + key.transpose(-1, -2) @ new
    return torch.cat(out, dim=2)[:, :, :length]


def unit_inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 for strictly lower triangular (..., T, T), T a power of two.

    [[P, 0], [C, Q]]^-1 = [[P^-1, 0], [-Q^-1 C P^-1, Q^-1]], for all blocks of the diagonal at once, from 2 x 2 to the whole.
    Unlike the product of the powers of `lower`, every intermediate is an inverse that belongs to the result.
    """
    steps = lower.shape[-1]
    inverse = torch.ones_like(lower.diagonal(dim1=-2, dim2=-1))[..., None, None]
    size = 1
    while size < steps:
        blocks = lower.unflatten(-1, (-1, 2 * size)).unflatten(-3, (-1, 2 * size))
        below = blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)[..., size:, :size]
        first, second = inverse.unflatten(-3, (-1, 2)).unbind(-3)
        mixed = -(second @ below @ first)
        inverse = torch.cat(
            (torch.cat((first, torch.zeros_like(first)), -1), torch.cat((mixed, second), -1)),
            dim=-2,
        )
        size *= 2
    return inverse.squeeze(-3)


def macs(width: int, size: int, *, heads: int, directions: int, taps: int = 4) -> int:
    """Multiply-adds of one map."""
    length, depth, steps = size**2, width // heads, chunk_of(size**2)
    padded = -(-length // steps) * steps
    chunked = width * (padded * (5 * steps + 2 * depth) + (padded - steps) * depth)
    return length * width * (4 * width + heads) + directions * (chunked + heads * padded * (steps**2 - 1) // 3)


def reference(module: DeltaRule, x: Tensor) -> Tensor:
    """Position by position, in each direction's own order."""
    heads, depth = module.heads, x.shape[3] // module.heads
    parts = [naive.linear(f, x) for f in (module.q, module.k, module.v)]
    beta = torch.sigmoid(naive.linear(module.beta, x))
    total = dict.fromkeys(naive_orders(x.shape[1], x.shape[2], 1)[0], torch.zeros_like(x[:, 0, 0]))
    for order in naive_orders(x.shape[1], x.shape[2], module.directions):
        state = x.new_zeros(x.shape[0], heads, depth, depth)
        for t, (i, j) in enumerate(order):
            taps = (module.q_taps, module.k_taps, module.v_taps)
            q, k, v = (_tapped(part, order, t, w).view(-1, heads, depth) for part, w in zip(parts, taps, strict=True))
            q, k = (part / (part.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
            known = (state * k[..., None]).sum(-2)
            state = state + k[..., None] * (beta[:, i, j, :, None] * (v - known))[:, :, None]
            total[i, j] = total[i, j] + (state * q[..., None]).sum(-2).flatten(1) / depth**0.5
    y = torch.stack(list(total.values()), dim=1).view(*x.shape[:3], heads, depth)
    y = y / (y.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * module.norm.weight
    return naive.linear(module.out, y.flatten(-2))


def _tapped(x: Tensor, order: list[tuple[int, int]], t: int, taps: Tensor | None) -> Tensor:
    """silu of the short convolution of step t of an order."""
    i, j = order[t]
    out = x[:, i, j]
    if taps is not None:
        count = taps.shape[1]
        past = [(n, order[t - count + 1 + n]) for n in range(count) if t - count + 1 + n >= 0]
        out = torch.stack([x[:, i, j] * taps[:, n] for n, (i, j) in past]).sum(0)
    return out * torch.sigmoid(out)
