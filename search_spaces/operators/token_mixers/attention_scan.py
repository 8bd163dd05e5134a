"""Local and dilated attention whose weights also gather the states of a selective scan over what they mixed."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.attention_base import mix_fast
from nas.search_spaces.operators.scan import recurrence
from nas.search_spaces.operators.token_mixers.neighbourhood_attention import axis_plan, cut, hidden, uncut
from nas.search_spaces.operators.token_mixers.overlapping_reduction_attention import stretched, stretched_reference
from nas.search_spaces.operators.token_mixers.selective_scan import first_steps, naive_softplus
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register

Plan = tuple[Tensor, Tensor, Tensor, Tensor]
Spot = tuple[int, int]
Vectors = dict[Spot, Tensor]


@register(
    "attention_scan",
    Kind.TOKEN_MIXER,
    group=Group.RECURRENCE,
    cite=(
        "Lou et al. 2025 (A2Mamba), arXiv:2507.16624, section 3.2, MASS; official models/a2mamba.py Attention and A2SSM, "
        "window and bias index as in NATTEN's na2d_qk, na2d_av"
    ),
    settings={
        "heads": Setting(
            (2, 4, 8),
            rule=lambda v, place: int(v) >= 2 and int(v) % 2 == 0 and place.width % (4 * int(v)) == 0,
            because="an even number of heads, each with a multiple of 4 channels",
        ),
        "kernel": Setting(
            (3, 7, 11),
            rule=lambda v, place: int(v) % 2 == 1 and 3 <= int(v) <= place.size,
            because="a kernel is odd, at least 3, and not larger than the map",
        ),
        "ending": one_of("scan", "global", "global_pairs", default="scan"),
    },
)
class AttentionScan(nn.Module):
    """Half of the heads attend to kernel x kernel neighbours, the other half to dilated ones, whose values are the sum of their
    own and of what the first half found. u = silu(DW5(both)); h_t = exp(D_t A) h_{t-1} + D_t B_t u_t row by row, one state a
    channel; the weights of both halves gather h once more, `fuse` mixes the heads, y = C_t h + skip u, and the result is
    out(norm((norm(y) + DW5(v)) * silu(BN(gate(x))))), with D_t = softplus(rise(lower(u_t))), A = -exp(a_log).

    The dilation is min(side // kernel, kernel), side the shorter one of the map (the official code takes each axis by itself);
    q and k are rotated by row and column (RoPE); the relative-position table is the same for both halves, as in the code,
    where a list holds one parameter twice. Published models have kernel 11, 9, 7, 7. In their last stage, y is not made by a
    scan but by attention of every position to every position's `both` (`ending` global_pairs), with the same queries and keys
    and a learned bias for each pair, interpolated for maps of other sizes; `global` is without this bias.

    Weights are computed in tiles, as in `neighbourhood_attention`. With M_i the keys of a tile, side by side: MACs
    5 N C^2 + 50 N C + N C (2 R + 2 + heads) + 3/2 N C (M_1^2 + M_2^2), R = ceil(C / 16); without the scan
    5 N C^2 + 25 N C + N C (M_1^2 + M_2^2) + 2 N^2 C.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"neighbour_bias": (0, 1)}

    def __init__(self, width: int, size: int, *, heads: int, kernel: int, ending: str = "scan") -> None:
        super().__init__()
        self.heads, self.scans = heads, ending == "scan"
        self.q, self.k, self.v, self.gate, self.out = (nn.Linear(width, width) for _ in range(5))
        self.gate_norm = nn.BatchNorm2d(width)
        self.position = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm, self.out_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.neighbour_bias = nn.Parameter(torch.empty(2 * kernel - 1, 2 * kernel - 1, heads // 2))
        nn.init.trunc_normal_(self.neighbour_bias, std=0.02)
        self.near, self.far = Neighbours(size, kernel, False), Neighbours(size, kernel, True)
        if self.scans:
            self._make_scan(width, heads)
        self.pairs = nn.Parameter(torch.zeros(heads, size**2, size**2)) if ending == "global_pairs" else None

    def _make_scan(self, width: int, heads: int) -> None:
        rank = math.ceil(width / 16)
        self.conv = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.lower, self.rise = nn.Linear(width, rank, bias=False), nn.Linear(rank, width)
        self.rise.bias.data.copy_(first_steps(width))
        self.write, self.read = (nn.Linear(width, 1, bias=False) for _ in range(2))
        self.a_log = nn.Parameter(torch.zeros(width))
        self.skip = nn.Parameter(torch.ones(width))
        self.fuse = nn.Linear(heads, heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        v = self.v(x)
        q, k = (rotated(f(x), self.heads) for f in (self.q, self.k))
        q = q * (x.shape[3] // self.heads) ** -0.5
        (near_q, far_q), (near_k, far_k), (near_v, far_v) = (part.chunk(2, dim=-1) for part in (q, k, v))
        near = self.near.weights(near_q, near_k, self.neighbour_bias)
        far = self.far.weights(far_q, far_k, self.neighbour_bias)
        near_v = self.near.gathered(near, near_v)
        far_v = self.far.gathered(far, near_v + far_v)
        both = torch.cat((near_v, far_v), dim=-1)
        y = self._scanned(both, near, far) if self.scans else self._everywhere(q, k, both)
        y = self.norm(y) + convolved(self.position, v)
        gate = self.gate_norm(self.gate(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.out(self.out_norm(y * F.silu(gate)))
        return out

    def _everywhere(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of every position to every position: (B, H, W, C)."""
        tokens = v.shape[1] * v.shape[2]
        bias = None if self.pairs is None else stretched(self.pairs, tokens, tokens)
        q, k, flat = (part.flatten(1, 2)[:, None] for part in (q, k, v))
        return mix_fast(q, k, flat, bias, self.heads, 1.0).view(v.shape)

    def _scanned(self, both: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """The states of the scan over the mixed values, gathered with the weights of both halves: (B, H, W, C)."""
        u = F.silu(convolved(self.conv, both))
        state, read = self._states(u)
        near_s, far_s = state.chunk(2, dim=-1)
        state = torch.cat((self.near.gathered(near, near_s), self.far.gathered(far, far_s)), dim=-1)
        state = self.fuse.weight @ state.unflatten(-1, (self.heads, -1)) + self.fuse.bias[:, None]
        return state.flatten(-2) * read + u * self.skip

    def _states(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The states of the scan (B, H, W, C), and what they are read with, (B, H, W, 1)."""
        narrow = F.linear(u, torch.cat((self.lower.weight, self.write.weight, self.read.weight)))
        lowered, write, read = narrow.split((self.rise.in_features, 1, 1), dim=-1)
        step = F.softplus(self.rise(lowered))
        log_decay, inputs = ((part.flatten(1, 2)[:, None]) for part in (step * -self.a_log.exp(), step * u * write))
        return recurrence(log_decay, inputs).view(u.shape), read


class Neighbours(nn.Module):
    """The kernel x kernel neighbours of each position, next to it or dilated so as to span the map."""

    queries: Tensor
    keys: Tensor
    offset: Tensor
    seen: Tensor

    def __init__(self, size: int, kernel: int, dilated: bool) -> None:
        super().__init__()
        self.size, self.kernel, self.dilated = size, kernel, dilated
        queries, keys, offset, seen = axis_plan(size, kernel, dilation_of(size, kernel, dilated))
        self.register_buffer("queries", queries, persistent=False)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("seen", seen, persistent=False)

    def weights(self, q: Tensor, k: Tensor, table: Tensor) -> Tensor:
        """softmax(q k^T + table) of maps (B, H, W, C) in tiles: (B, tiles, heads, queries, keys)."""
        (rows, columns), dilation, heads = self._plans(q), self._dilation(q), table.shape[2]
        q = split_heads(cut(q, dilation, rows[0], columns[0]), heads)
        k = split_heads(cut(k, dilation, rows[1], columns[1]), heads)
        index = rows[2][:, None, :, None] * table.shape[1] + columns[2][None, :, None, :]
        bias = table.flatten(0, 1)[index.flatten()].view(q.shape[-2], -1, heads).permute(2, 0, 1)
        return (q @ k.transpose(-1, -2) + (bias + hidden(rows[3], columns[3], q))).softmax(-1)

    def gathered(self, weights: Tensor, v: Tensor) -> Tensor:
        """The sums of the map (B, H, W, C) with those weights, as a map."""
        (rows, columns), dilation = self._plans(v), self._dilation(v)
        mixed = weights @ split_heads(cut(v, dilation, rows[1], columns[1]), weights.shape[2])
        return uncut(join_heads(mixed), v.shape[1], v.shape[2], dilation, rows[0].shape, columns[0].shape)

    def _dilation(self, x: Tensor) -> int:
        """The dilation on this map, the same for both axes."""
        return dilation_of(min(x.shape[1], x.shape[2]), self.kernel, self.dilated)

    def _plans(self, x: Tensor) -> tuple[Plan, Plan]:
        """`axis_plan` of both axes: stored for the square map that the module was built for."""
        stored = (self.queries, self.keys, self.offset, self.seen)
        if x.shape[1] == x.shape[2] == self.size:
            return stored, stored
        device, dilation = self.queries.device, self._dilation(x)
        rows, columns = (axis_plan(length, self.kernel, dilation) for length in x.shape[1:3])
        return moved(rows, device), moved(columns, device)


def moved(plan: Plan, device: torch.device) -> Plan:
    """A plan on a device."""
    queries, keys, offset, seen = plan
    return queries.to(device), keys.to(device), offset.to(device), seen.to(device)


def dilation_of(side: int, kernel: int, dilated: bool) -> int:
    """1, or as much as spans the map, but not more than the kernel."""
    return max(1, min(side // kernel, kernel)) if dilated else 1


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of a map (B, H, W, C)."""
    y: Tensor = conv(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def rotated(x: Tensor, heads: int) -> Tensor:
    """Pairs of channels turned by row in a head's first half, by column in its second, at d / 4 speeds from 1 to 1e-4."""
    depth = x.shape[3] // heads
    speeds = 10000.0 ** -torch.linspace(0, 1, depth // 4, dtype=torch.float64)
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * speeds for n in x.shape[1:3])
    angle = torch.cat(torch.broadcast_tensors(rows[:, None], columns[None]), dim=-1)[:, :, None]
    cosine, sine = angle.cos().to(x), angle.sin().to(x)
    a, b = x.unflatten(-1, (heads, depth // 2, 2)).unbind(-1)
    return torch.stack((a * cosine - b * sine, b * cosine + a * sine), dim=-1).flatten(-3)


def macs(width: int, size: int, *, heads: int, kernel: int, ending: str = "scan") -> int:
    """Multiply-adds of one map."""
    pairs = 0
    for dilation in (dilation_of(size, kernel, False), dilation_of(size, kernel, True)):
        queries, keys, _, _ = axis_plan(size, kernel, dilation)
        pairs += (dilation * queries.numel() * keys.shape[1]) ** 2
    if ending != "scan":
        return size**2 * width * (5 * width + 25 + 2 * size**2) + pairs * width
    rank = math.ceil(width / 16)
    return size**2 * width * (5 * width + 50 + 2 * rank + 2 + heads) + 3 * pairs * width // 2


def reference(module: AttentionScan, x: Tensor) -> Tensor:
    """Query by query with its own list of neighbours, and position by position along the scan."""
    batch, height, width, channels = x.shape
    heads = (module.heads, channels // module.heads)
    places = [(i, j) for i in range(height) for j in range(width)]
    q, k = ({p: _turned(naive.linear(f, x[:, p[0], p[1]]).view(-1, *heads), *p) for p in places} for f in (module.q, module.k))
    v = naive.linear(module.v, x).view(batch, height, width, *heads)
    half = module.heads // 2
    found = {p: v[:, p[0], p[1]] for p in places}
    weights: list[dict[Spot, list[tuple[Spot, Tensor]]]] = []
    for first, dilated in ((0, False), (half, True)):
        part = slice(first, first + half)
        dilation = dilation_of(min(height, width), module.near.kernel, dilated)
        weights.append({p: _weights(module, q, k, p, part, dilation, (height, width)) for p in places})
        values = {p: found[p][:, part] + (found[p][:, :half] if dilated else 0) for p in places}
        for p, mixed in _gather(weights[-1], values).items():
            found[p] = torch.cat((found[p][:, :first], mixed, found[p][:, first + half :]), dim=1)
    both = torch.stack(list(found.values()), dim=1)
    y = _scanned_naively(module, both.view(x.shape), weights) if module.scans else _everywhere_naively(module, q, k, both)
    y = naive.layer_norm(module.norm, y.view(x.shape)) + naive.conv2d(module.position, v.flatten(-2))
    gate = naive.batch_norm(module.gate_norm, naive.linear(module.gate, x))
    return naive.linear(module.out, naive.layer_norm(module.out_norm, y * gate * torch.sigmoid(gate)))


def _everywhere_naively(module: AttentionScan, q: Vectors, k: Vectors, v: Tensor) -> Tensor:
    """Query by query; values (B, N, heads, d) -> (B, N, heads, d)."""
    keys, out = list(k.values()), []
    biases = None if module.pairs is None else stretched_reference(module.pairs, len(keys), len(keys))
    for number, query in enumerate(q.values()):
        bias = None if biases is None else list(biases[:, number].unbind(1))
        out.append(naive.attend(query, keys, list(v.unbind(1)), bias))
    return torch.stack(out, dim=1)


def _scanned_naively(module: AttentionScan, both: Tensor, weights: list[dict[Spot, list[tuple[Spot, Tensor]]]]) -> Tensor:
    """Position by position along the scan: (B, H, W, C)."""
    heads, places = (module.heads, both.shape[3] // module.heads), list(weights[0])
    u = naive.conv2d(module.conv, both)
    u = u * torch.sigmoid(u)
    state, states = torch.zeros_like(both[:, 0, 0]), {}
    for i, j in places:
        step = naive_softplus(naive.linear(module.rise, naive.linear(module.lower, u[:, i, j])))
        state = torch.exp(-step * torch.exp(module.a_log)) * state + step * naive.linear(module.write, u[:, i, j]) * u[:, i, j]
        states[i, j] = state.view(-1, *heads)
    parts = [_gather(w, {p: states[p].chunk(2, 1)[n] for p in places}) for n, w in enumerate(weights)]
    gathered = [torch.cat((parts[0][p], parts[1][p]), dim=1).transpose(1, 2) for p in places]
    fused = torch.stack([naive.linear(module.fuse, part).transpose(1, 2).flatten(1) for part in gathered], dim=1)
    return fused.view(both.shape) * naive.linear(module.read, u) + u * module.skip


def _turned(x: Tensor, row: int, column: int) -> Tensor:
    """One position's heads (B, heads, d), pair by pair."""
    out, quarter = [], x.shape[2] // 4
    for n in range(2 * quarter):
        speed = 10000.0 ** -((n % quarter) / max(quarter - 1, 1))
        angle = (row if n < quarter else column) * speed
        a, b = x[..., 2 * n], x[..., 2 * n + 1]
        out += [a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)]
    return torch.stack(out, dim=-1)


def _weights(
    module: AttentionScan,
    q: dict[tuple[int, int], Tensor],
    k: dict[tuple[int, int], Tensor],
    place: tuple[int, int],
    part: slice,
    dilation: int,
    shape: tuple[int, int],
) -> list[tuple[tuple[int, int], Tensor]]:
    """The neighbours of one place with their weights (B, heads / 2, 1)."""
    kernel = module.near.kernel
    axes = [_line(position, length, kernel, dilation) for position, length in zip(place, shape, strict=True)]
    near = [(y, z) for y in axes[0] for z in axes[1]]
    scores = []
    for y, z in near:
        bias = module.neighbour_bias[(y - place[0]) // dilation + kernel - 1, (z - place[1]) // dilation + kernel - 1]
        scores.append((q[place][:, part] * k[y, z][:, part]).sum(-1) / q[place].shape[-1] ** 0.5 + bias)
    return list(zip(near, torch.stack(scores).softmax(0)[..., None], strict=True))


def _line(position: int, length: int, kernel: int, dilation: int) -> list[int]:
    """The positions that `position` sees along one axis."""
    residue = list(range(position % dilation, length, dilation))
    first = min(max(position // dilation - kernel // 2, 0), max(len(residue) - kernel, 0))
    return residue[first : first + kernel]


def _gather(
    weights: dict[tuple[int, int], list[tuple[tuple[int, int], Tensor]]], values: dict[tuple[int, int], Tensor]
) -> dict[tuple[int, int], Tensor]:
    """The weighted sum of the neighbours' values at each place."""
    return {p: torch.stack([weight * values[key] for key, weight in near]).sum(0) for p, near in weights.items()}
