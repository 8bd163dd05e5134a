"""Recursive gated convolution: products of ever wider maps with depth-wise convolved ones."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, register

SCALE = 1 / 3


@register(
    "gated_conv",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Rao et al. 2022 (HorNet), arXiv:2207.14284, section 3.1, gnConv; official hornet.py gnconv",
    settings={
        "order": Setting(
            (2, 3, 4),
            rule=lambda v, place: int(v) >= 2 and place.width % 2 ** (int(v) - 1) == 0,
            because="an order is at least 2 and 2^(order - 1) divides the channels",
        ),
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
    },
)
class GatedConv(nn.Module):
    """u = start(x) * f(feed_{n-1}(x)), then for l = n-2 .. 0: u = lift_l(u) * f(feed_l(x)); y = out(u); f = SCALE * conv_l.

    Level l has C / 2^l channels; conv_l is depth-wise, kernel x kernel. The official code has one projection of 2 C outputs and
    one convolution for all levels; here each level has its own, numbered from the widest, so that networks of different
    width and order share the leading slices of level l. Parameters and results are the same. SCALE is that of all published
    HorNets. With n the order, N = H W: MACs N (3 C^2 + 2/3 C^2 (1 - 4^(1-n)) + kernel^2 C (2 - 2^(1-n))).
    """

    def __init__(self, width: int, size: int, *, order: int, kernel: int) -> None:
        super().__init__()
        widths = [width >> level for level in range(order)]
        self.start = nn.Linear(width, widths[-1])
        self.feed = nn.ModuleList(nn.Linear(width, w) for w in widths)
        self.conv = nn.ModuleList(nn.Conv2d(w, w, kernel, padding=kernel // 2, groups=w) for w in widths)
        self.lift = nn.ModuleList(nn.Linear(w // 2, w) for w in widths[:-1])
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        fed = [feed(x).permute(0, 3, 1, 2) for feed in self.feed]
        gates = [conv(part).permute(0, 2, 3, 1) * SCALE for conv, part in zip(self.conv, fed, strict=True)]
        u = self.start(x) * gates[-1]
        for level in reversed(range(len(self.lift))):
            u = self.lift[level](u) * gates[level]
        y: Tensor = self.out(u)
        return y


def reference(module: GatedConv, x: Tensor) -> Tensor:
    """Level by level, from the narrowest."""
    u = naive.linear(module.start, x)
    for level in reversed(range(len(module.feed))):
        feed, conv = cast(nn.Linear, module.feed[level]), cast(nn.Conv2d, module.conv[level])
        if level < len(module.lift):
            u = naive.linear(cast(nn.Linear, module.lift[level]), u)
        u = u * naive.conv2d(conv, naive.linear(feed, x)) / 3
    return naive.linear(module.out, u)
