"""Selective state-space scan of a map along one, two or four orders of its positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.scan import DIRECTIONS, merged, naive_orders, recurrence, scanned
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "selective_scan",
    Kind.TOKEN_MIXER,
    group=Group.RECURRENCE,
    cite=(
        "Gu and Dao 2023 (Mamba), arXiv:2312.00752, algorithm 2; Liu et al. 2024 (VMamba), arXiv:2401.10166, section 4.2; "
        "official vmamba.py SS2D (SS2Dv0, SS2Dv2) and csms6s.py selective_scan_torch"
    ),
    settings={
        "state": Setting(
            (1, 4, 16),
            rule=lambda v, place: 1 <= int(v) <= 64,
            because="a channel has from 1 to 64 states",
        ),
        "directions": DIRECTIONS,
        "expansion": Setting(
            (1, 2), rule=lambda v, place: 1 <= int(v) <= 4, because="the scan is 1 to 4 times as wide as the map", default=1
        ),
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) % 2 == 1 and int(v) // 2 <= max(place.size - 1, 1) and int(v) >= 3,
            because="a kernel is odd, at least 3, and kernel // 2 < map size (3 on any map)",
            default=3,
        ),
        "gate": flag(True),
        "conv_bias": flag(True),
    },
)
class SelectiveScan(nn.Module):
    """u = silu(DW(start(x))); in each direction h_t = exp(D_t A) h_{t-1} + D_t B_t u_t, y_t = C_t h_t + skip u_t; then
    out(LayerNorm(sum over directions of y) * silu(gate(x))), with D_t = softplus(rise(lower(u_t))), A = -exp(a_log).

    Each of the inner channels has `state` states; B_t and C_t (`write`, `read`) are linear in u_t and shared by the channels;
    lower, write, read, rise, A and skip are each direction's own. The inner width is expansion * C and D_t has rank
    ceil(C / 16). Directions: row by row, its reverse, column by column, its reverse; the official code always has four, in the
    order rows, columns, and their reverses. VMamba v0 is state 16, expansion 2; v2 (`v05_noz`) is state 1, expansion 2 or 1, no
    gate, conv_bias False. The official convolution is cut at the map's edge, and the projections have no bias.

    With E = expansion C, S states, R the rank, K directions, N = H W: MACs N (3 C E (2 C E without gate) + E kernel^2
    + 2 K E (R + S)); the scan itself, about 9 N K E S element-wise operations, is not counted.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        state: int,
        directions: int,
        expansion: int = 1,
        kernel: int = 3,
        gate: bool = True,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.directions = directions
        inner, rank = expansion * width, math.ceil(width / 16)
        self.start = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False) if gate else None
        self.conv = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=conv_bias)
        self.lower = nn.Parameter(uniform(directions, rank, inner, bound=inner**-0.5))
        self.write = nn.Parameter(uniform(directions, state, inner, bound=inner**-0.5))
        self.read = nn.Parameter(uniform(directions, state, inner, bound=inner**-0.5))
        self.rise = nn.Parameter(uniform(directions, inner, rank, bound=rank**-0.5))
        self.rise_bias = nn.Parameter(first_steps(directions, inner))
        self.a_log = nn.Parameter(torch.arange(1, state + 1).to(self.rise).log().repeat(directions, inner, 1))
        self.skip = nn.Parameter(torch.ones(directions, inner))
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        u = F.silu(self.conv(self.start(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        u = scanned(u, self.directions)
        rank, state = self.lower.shape[1], self.write.shape[1]
        narrow = u @ torch.cat((self.lower, self.write, self.read), dim=1).transpose(1, 2)
        lowered, write, read = narrow.split((rank, state, state), dim=-1)
        step = F.softplus(lowered @ self.rise.transpose(1, 2) + self.rise_bias[:, None])
        log_decay = step[..., None] * -self.a_log.exp()[:, None]
        hidden = recurrence(log_decay, (step * u)[..., None] * write[..., None, :])
        y = (hidden * read[..., None, :]).sum(-1) + u * self.skip[:, None]
        y = self.norm(merged(y, x.shape[1], x.shape[2]))
        if self.gate is not None:
            y = y * F.silu(self.gate(x))
        out: Tensor = self.out(y)
        return out


def uniform(*shape: int, bound: float) -> Tensor:
    """Values drawn between -bound and bound."""
    return (torch.rand(*shape) * 2 - 1) * bound


def first_steps(*shape: int) -> Tensor:
    """The inverse softplus of step sizes drawn log-uniformly between 0.001 and 0.1, as the official code begins with."""
    step = torch.exp(torch.rand(*shape) * math.log(100) + math.log(0.001))
    return step + torch.log(-torch.expm1(-step))


def macs(
    width: int,
    size: int,
    *,
    state: int,
    directions: int,
    expansion: int = 1,
    kernel: int = 3,
    gate: bool = True,
    conv_bias: bool = True,
) -> int:
    """Multiply-adds of one map."""
    inner, rank = expansion * width, math.ceil(width / 16)
    projections = (2 + gate) * width * inner + kernel**2 * inner
    return size**2 * (projections + directions * inner * (2 * rank + 2 * state))


def reference(module: SelectiveScan, x: Tensor) -> Tensor:
    """Position by position, in each direction's own order."""
    u = naive.conv2d(module.conv, naive.linear(module.start, x))
    u = u * torch.sigmoid(u)
    y = torch.zeros_like(u)
    for k, order in enumerate(naive_orders(x.shape[1], x.shape[2], module.directions)):
        hidden = torch.zeros_like(module.a_log[k]).expand(x.shape[0], -1, -1)
        outputs = dict.fromkeys(order, u[:, 0, 0])
        for i, j in order:
            now = u[:, i, j]
            step = naive_softplus((now @ module.lower[k].t()) @ module.rise[k].t() + module.rise_bias[k])
            write, read = now @ module.write[k].t(), now @ module.read[k].t()
            decay = torch.exp(-step[..., None] * torch.exp(module.a_log[k]))
            hidden = decay * hidden + (step * now)[..., None] * write[:, None]
            outputs[i, j] = (hidden * read[:, None]).sum(-1) + now * module.skip[k]
        y = y + torch.stack([outputs[key] for key in sorted(outputs)], dim=1).view(u.shape)
    y = naive.layer_norm(module.norm, y)
    if module.gate is not None:
        gate = naive.linear(module.gate, x)
        y = y * gate * torch.sigmoid(gate)
    return naive.linear(module.out, y)


def naive_softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), and x itself above 20, as torch and the official kernels have it."""
    return torch.where(x > 20, x, torch.log1p(torch.exp(x)))
