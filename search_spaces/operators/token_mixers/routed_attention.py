"""Attention of each region of the map to the regions that resemble it most."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.content import cell_of, cells, compared, inside, ranked, taken, tiled, untiled
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "routed_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhu et al. 2023 (BiFormer), arXiv:2303.08810, eq. 3-8; official ops/bra_legacy.py BiLevelRoutingAttention",
    settings={
        "heads": HEADS,
        "regions": Setting(
            (8, 7, 4, 2),
            rule=lambda v, place: 1 <= int(v) <= place.size and -(-place.size // -(-place.size // int(v))) == int(v),
            because="cells of one size cut each axis in just so many regions, at most one a position",
        ),
        "top_k": Setting(
            (1, 4, 16),
            rule=lambda v, place: 1 <= int(v) <= int(place.chosen["regions"]) ** 2,
            because="a region sees at least one region, and no more than there are: regions^2",
        ),
        **modifiers("none"),
    },
)
class RoutedAttention(Attention):
    """softmax(q k^T / sqrt(d)) v, each region seeing the `top_k` regions whose mean key fits its mean query best.

    The map is cut in `regions` x `regions` cells. No gradient flows through the choice, as in the official code; of equal
    regions the first is taken. Maps that cannot be cut evenly have fewer or ragged regions: what lies beyond the map is hidden
    and no part of a mean (the official legacy code lets zeros take part). Published models have lepe=5, and in their last
    stage `enhanced_attention`. The official score is divided by sqrt(C), not sqrt(d): divide its q (weight and bias) by
    sqrt(heads) to load it. With N = H W, S regions along an axis: MACs 4 N C^2 + S^4 C + 2 N top_k (N / S^2) C.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, regions: int, top_k: int, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, size, heads=heads, **chosen)
        self.regions, self.top_k = regions, top_k

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Regions of all images are tiles of one, each with its own keys."""
        batch, height, width, _ = x.shape
        cell = cell_of(height, self.regions), cell_of(width, self.regions)
        real = inside(height, width, *cell, x)
        q, k, v = (tiled(part, *cell) for part in (q, k, v))
        routes = self._routes(q.detach(), k.detach(), real)
        layout = self._layout(height, width, cell, routes) if self.position.places else None
        seen = None if real is None else real[routes.flatten()].view(-1, 1, routes.shape[2] * q.shape[2])
        k, v = (_gathered(part, routes) for part in (k, v))
        mixed = self.mix(x, q.flatten(0, 1)[None], k, v, layout, seen)[0].unflatten(0, (batch, -1))
        return untiled(mixed, height, width, *cell)

    def _routes(self, q: Tensor, k: Tensor, real: Tensor | None) -> Tensor:
        """The regions that each region sees: (B, P, top_k)."""
        if real is None:
            means = [part.mean(2) for part in (q, k)]
        else:
            weights = real.to(q.dtype) / real.sum(1, keepdim=True)
            means = [(part * weights[:, :, None]).sum(2) for part in (q, k)]
        return ranked(means[0] @ means[1].transpose(1, 2), descending=True)[:, :, : self.top_k]

    def _layout(self, height: int, width: int, cell: tuple[int, int], routes: Tensor) -> Layout:
        """Each region of each image has offsets of its own."""
        place = torch.arange(height * width, device=routes.device).view(1, height, width, 1) + 1
        place = tiled(place, *cell)[0, :, :, 0] - 1
        key = place[routes.flatten()].view(-1, routes.shape[2] * place.shape[1])
        query = place.repeat(routes.shape[0], 1)
        rows = key[:, None] // width - query[:, :, None] // width
        return Layout(rows, key[:, None] % width - query[:, :, None] % width)


def _gathered(x: Tensor, routes: Tensor) -> Tensor:
    """The tokens of the routed regions, whole regions at a time: (B, P, L, C) -> (1, B * P, top_k * L, C)."""
    batch, regions, length, channels = x.shape
    found = taken(x.flatten(2), routes.flatten(1))
    return found.view(1, batch * regions, -1, channels) if length else x


def reference(module: RoutedAttention, x: Tensor) -> Tensor:
    """Image by image: the regions' means, their ranking, and for each query the pixels of the regions that it sees."""
    return torch.cat([_one_image(module, x[n : n + 1]) for n in range(x.shape[0])])


def _one_image(module: RoutedAttention, x: Tensor) -> Tensor:
    cell = -(-x.shape[1] // module.regions), -(-x.shape[2] // module.regions)
    members = cells(x.shape[1], x.shape[2], *cell)
    q, k = (compared(module, layer, x).detach().flatten(3)[0] for layer in (module.q, module.k))
    means = [[torch.stack([part[i, j] for i, j in places]).mean(0) for places in members] for part in (q, k)]
    found = {}
    for region, places in enumerate(members):
        scores = [float((means[0][region] * key).sum()) for key in means[1]]
        best = [other for _, other in sorted((-score, other) for other, score in enumerate(scores))][: module.top_k]
        found.update({place: [near for other in best for near in members[other]] for place in places})

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(y - i, z - j, (i, j), (y, z)) for y, z in found[i, j]]

    return attention_naive.attend(module, x, sees)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + S^4 C + 2 N top_k (N / S^2) C where S divides the map and queries are as wide as values."""
    module = RoutedAttention(width, size, **settings)
    cell = cell_of(size, module.regions)
    regions, pixels = cell_of(size, cell) ** 2, cell**2
    routing = regions**2 * module.q.out_features
    keys = min(module.top_k, regions) * pixels
    return routing + attention_macs(module, size * size, size * size, regions, pixels, keys, layouts=regions)
