"""Attention of every position to a coarser map made by overlapping depth-wise patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.operators.attention_reduced import (
    OUT,
    ReducedAttention,
    reduced_macs,
    reduced_modifiers,
    reduced_reference,
)
from nas.search_spaces.operators.positions.base import Layout, Pair, Position
from nas.search_spaces.registry import Group, Kind, Setting, register


class PairPosition(Position):
    """A learned bias for each pair of a query and a key: (heads, N, M), interpolated for maps of other sizes.

    As in the official code, the table is stretched by bicubic interpolation over the flattened positions. There one table
    serves all blocks of a stage; here each block has its own.
    """

    places: ClassVar[bool] = True

    def __init__(self, width: int, heads: int, size: int, narrow: int, reduction: int) -> None:
        super().__init__(width, heads, size, narrow)
        self.reduction = reduction
        self.pairs = nn.Parameter(torch.empty(heads, size**2, (-(-size // reduction)) ** 2))
        nn.init.trunc_normal_(self.pairs, std=0.02)

    def bias(self, layout: Layout, x: Tensor) -> Tensor:
        """(1, heads, N, M)."""
        return stretched(self.pairs, layout.rows.shape[1], layout.rows.shape[2])


def stretched(pairs: Tensor, queries: int, keys: int) -> Tensor:
    """The table for another number of queries and keys: (1, heads, queries, keys)."""
    if pairs.shape[1:] == (queries, keys):
        return pairs[None]
    return F.interpolate(pairs[None], size=(queries, keys), mode="bicubic", align_corners=False)


def stretched_reference(pairs: Tensor, queries: int, keys: int) -> Tensor:
    """The table (heads, queries, keys) with each entry as a weighted sum of the 4 x 4 nearest ones, row by row."""
    if pairs.shape[1:] == (queries, keys):
        return pairs
    rows = torch.stack([_between(pairs, 1, place, queries) for place in range(queries)], dim=1)
    return torch.stack([_between(rows, 2, place, keys) for place in range(keys)], dim=2)


def _between(table: Tensor, dim: int, place: int, count: int) -> Tensor:
    """What lies at one of `count` places of an axis, by Keys' cubic kernel with a = -3/4, the outermost entries repeated."""
    length, found = table.shape[dim], torch.zeros_like(table.select(dim, 0))
    where = (place + 0.5) * length / count - 0.5
    first = math.floor(where) - 1
    for tap in range(first, first + 4):
        far = abs(where - tap)
        near = (1.25 * far - 2.25) * far**2 + 1 if far <= 1 else -0.75 * (((far - 5) * far + 8) * far - 4)
        found = found + near * table.select(dim, min(max(tap, 0), length - 1))
    return found


def bias_reference(module: PairPosition, pairs: Sequence[Pair], head: int, read: Tensor) -> Tensor:
    """The bias of each pair: (M,)."""
    rows, columns = (-(-length // module.reduction) for length in read.shape[1:3])
    table = stretched_reference(module.pairs, read.shape[1] * read.shape[2], rows * columns)[head]
    places = [(p.query[0] * read.shape[2] + p.query[1], p.key[0] * columns + p.key[1]) for p in pairs]
    return torch.stack([table[query, key] for query, key in places])


PRIORS = (*reduced_modifiers()["position"].choices, "pairs")


@register(
    "overlapping_reduction_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Lou et al. 2023 (TransXNet), arXiv:2310.19380, section 3.1 (OSRA); official transxnet.py Attention",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2, 1),
            rule=lambda v, place: v == 1 or (int(v) > 0 and int(v) % 2 == 0 and int(v) < place.size),
            because="a reduction is 1 or even, and smaller than the map, which leaves several keys",
        ),
        **reduced_modifiers(),
        "position": Setting(PRIORS, lambda v, place: v in PRIORS, f"it is one of {', '.join(map(str, PRIORS))}", "none"),
        "out": OUT,
    },
)
class OverlappingReductionAttention(ReducedAttention):
    """softmax(q(x) k(z)^T / sqrt(d)) v(z), z = y + DW3(y), y = BN(w * gelu(BN(DW(x)))) with reduction + 3 pixels a side.

    The depth-wise convolution DW has the reduction as its stride and overlaps its neighbours; w is one factor a channel (a
    depth-wise 1 x 1 convolution). With reduction 1, y = x. Rows and columns of z are ceil(H / reduction), ceil(W /
    reduction), edges padded with zeros. The official module ends with the mixed values (`out` none), which TransXNet
    projects together with those of a dynamic convolution on the other half of the channels. MACs, M = N / reduction^2:
    N C^2 (2 N C^2 projected) + 2 M C^2 + 2 N M C + M C ((reduction + 3)^2 + 10).
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, **chosen: Unpack[Modifiers]) -> None:
        pairs = chosen.get("position") == "pairs"
        if pairs:
            chosen["position"] = "none"
        super().__init__(width, -(-size // reduction), heads=heads, **chosen)
        if pairs:
            self.position = PairPosition(width, heads, size, self.q.out_features, reduction)
        self.reduction = reduction
        if reduction > 1:
            kernel = reduction + 3
            self.shrink = nn.Conv2d(width, width, kernel, reduction, kernel // 2, groups=width, bias=False)
            self.shrink_norm, self.factor_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.factor = nn.Conv2d(width, width, 1, groups=width, bias=False)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def sources(self, x: Tensor) -> Tensor:
        """(B, ceil(H / reduction), ceil(W / reduction), C)."""
        y = x.permute(0, 3, 1, 2)
        if self.reduction > 1:
            y = self.factor_norm(self.factor(F.gelu(self.shrink_norm(self.shrink(y)))))
        return (y + self.local(y)).permute(0, 2, 3, 1)


def reference(module: OverlappingReductionAttention, x: Tensor) -> Tensor:
    """Query by query, over the coarse positions."""
    y = x = attention_naive.prepared(module, x)
    if module.reduction > 1:
        y = naive.gelu(naive.batch_norm(module.shrink_norm, naive.conv2d(module.shrink, x)))
        y = naive.batch_norm(module.factor_norm, y * module.factor.weight.flatten())
    return reduced_reference(module, x, y + naive.conv2d(module.local, y))


def macs(width: int, size: int, **settings: Any) -> int:
    """The attention, and the depth-wise convolutions that make its keys."""
    module = OverlappingReductionAttention(width, size, **settings)
    r = module.reduction
    cells = (-(-size // r)) ** 2
    shrinking = (r + 3) ** 2 + 1 if r > 1 else 0
    return reduced_macs(module, size**2, cells) + cells * width * (shrinking + 9)
