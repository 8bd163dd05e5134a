"""Recursive gated convolution: products of ever wider maps with depth-wise convolved or globally filtered ones."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.token_mixers import global_filter
from nas.search_spaces.operators.token_mixers.global_filter import GlobalFilter
from nas.search_spaces.registry import Group, Kind, Setting, register

SCALE = 1 / 3


@register(
    "gated_conv",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Rao et al. 2022 (HorNet), arXiv:2207.14284, section 3.1, gnConv; official hornet.py gnconv, GlobalLocalFilter",
    settings={
        "order": Setting(
            (2, 3, 4, 5),
            rule=lambda v, place: int(v) >= 2 and place.width % 2 ** (int(v) - 1) == 0,
            because="an order is at least 2 and 2^(order - 1) divides the channels",
        ),
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "filter": Setting(
            ("depthwise", "global_local"),
            rule=lambda v, place: (
                v == "depthwise" or (v == "global_local" and place.width % 2 ** int(place.chosen["order"]) == 0)
            ),
            because="it is depthwise, or global_local where 2^order divides the channels",
            default="depthwise",
        ),
    },
)
class GatedConv(nn.Module):
    """u = start(x) * f(feed_{n-1}(x)), then for l = n-2 .. 0: u = lift_l(u) * f(feed_l(x)); y = out(u).

    Level l has C / 2^l channels. f = SCALE * conv_l is depth-wise, kernel x kernel, or with `filter="global_local"` (HorNet-GF)
    SCALE * GlobalLocalFilter of all levels side by side. The official code has one projection of 2 C outputs and one
    convolution for all levels; here each level has its own, numbered from the widest, so that networks of different width and
    order share the leading slices of level l. Parameters and results are the same. SCALE is that of all published HorNets.

    With n the order and N = H W, MACs of the depth-wise form: N (3 C^2 + 2/3 C^2 (1 - 4^(1-n)) + kernel^2 C (2 - 2^(1-n))).
    """

    def __init__(self, width: int, size: int, *, order: int, kernel: int, filter: str = "depthwise") -> None:
        super().__init__()
        widths = [width >> level for level in range(order)]
        self.start = nn.Linear(width, widths[-1])
        self.feed = nn.ModuleList(nn.Linear(width, w) for w in widths)
        self.lift = nn.ModuleList(nn.Linear(w // 2, w) for w in widths[:-1])
        self.out = nn.Linear(width, width)
        if filter == "depthwise":
            self.conv = nn.ModuleList(nn.Conv2d(w, w, kernel, padding=kernel // 2, groups=w) for w in widths)
            self.both = None
        else:
            self.both = GlobalLocalFilter(sum(widths), size, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        gates = self._gates([feed(x) for feed in self.feed])
        u = self.start(x) * gates[-1]
        for level in reversed(range(len(self.lift))):
            u = self.lift[level](u) * gates[level]
        y: Tensor = self.out(u)
        return y

    def _gates(self, fed: list[Tensor]) -> list[Tensor]:
        """f of each level, the widest first."""
        if self.both is not None:
            filtered: Tensor = self.both(torch.cat(fed[::-1], dim=-1)) * SCALE
            return list(filtered.split([part.shape[-1] for part in fed[::-1]], dim=-1))[::-1]
        parts = (part.permute(0, 3, 1, 2) for part in fed)
        return [conv(part).permute(0, 2, 3, 1) * SCALE for conv, part in zip(self.conv, parts, strict=True)]


class GlobalLocalFilter(nn.Module):
    """norm of the first half of the channels convolved and the second half globally filtered, interleaved.

    Half channel i becomes 2 i of the first half and 2 i + 1 of the second. The input is normed as well, both with LayerNorm
    over the channels. Official hornet.py GlobalLocalFilter, whose convolution is 3x3 without bias.
    """

    def __init__(self, width: int, size: int, kernel: int) -> None:
        super().__init__()
        half = width // 2
        self.before, self.after = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.near = nn.Conv2d(half, half, kernel, padding=kernel // 2, groups=half, bias=False)
        self.far = GlobalFilter(half, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), for an even C."""
        first, second = self.before(x).chunk(2, dim=-1)
        near = self.near(first.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y: Tensor = self.after(torch.stack((near, self.far(second)), dim=-1).flatten(-2))
        return y


def macs(width: int, size: int, *, order: int, kernel: int, filter: str = "depthwise") -> int:
    """Multiply-adds on a size x size map."""
    widths = [width >> level for level in range(order)]
    linear = width * (widths[-1] + sum(widths) + width) + sum(w * (w // 2) for w in widths[:-1])
    if filter == "depthwise":
        return size**2 * (linear + kernel**2 * sum(widths))
    half = sum(widths) // 2
    return size**2 * (linear + kernel**2 * half) + global_filter.macs(half, size)


def reference(module: GatedConv, x: Tensor) -> Tensor:
    """Level by level, from the narrowest."""
    fed = [naive.linear(cast(nn.Linear, feed), x) for feed in module.feed]
    if module.both is None:
        gates = [naive.conv2d(cast(nn.Conv2d, conv), part) for conv, part in zip(module.conv, fed, strict=True)]
    else:
        gates = _filtered(module.both, fed)
    u = naive.linear(module.start, x)
    for level in reversed(range(len(gates))):
        if level < len(module.lift):
            u = naive.linear(cast(nn.Linear, module.lift[level]), u)
        u = u * gates[level] / 3
    return naive.linear(module.out, u)


def _filtered(both: GlobalLocalFilter, fed: list[Tensor]) -> list[Tensor]:
    """The global-local filter, channel by channel, and what each level gets of it."""
    normed = naive.layer_norm(both.before, torch.cat([fed[level] for level in reversed(range(len(fed)))], dim=-1))
    half = normed.shape[-1] // 2
    near = naive.conv2d(both.near, normed[..., :half])
    far = global_filter.reference(both.far, normed[..., half:])
    mixed = torch.stack([(near, far)[c % 2][..., c // 2] for c in range(2 * half)], dim=-1)
    mixed = naive.layer_norm(both.after, mixed)
    gates, end = [], 2 * half
    for part in fed:
        gates.append(mixed[..., end - part.shape[-1] : end])
        end -= part.shape[-1]
    return gates
