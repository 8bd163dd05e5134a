"""Attention inside a sliding kernel, as a convolution sees the map: zeros beyond the edges, dilation, shifted channels."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "sliding_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhang et al. 2023 (TiC), arXiv:2310.04134, MSA-Conv; official core/op/Transformer_in_Convolution.py MSA_Conv_2d",
    settings={
        "heads": HEADS,
        "kernel": Setting(
            (3, 5, 7),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "dilation": Setting(
            (1, 2),
            rule=lambda v, place: int(v) >= 1 and int(place.chosen["kernel"]) // 2 * int(v) < place.size,
            because="the outermost taps reach a pixel: kernel // 2 * dilation < map size",
        ),
        "shift": Setting(
            (0, 1, 2),
            rule=lambda v, place: v == 0 or (0 < int(v) < place.size and place.width % 4 == 0),
            because="channels shift in four directions: 0, or 4 divides the channels and 0 < shift < map size",
            default=0,
        ),
        **modifiers("none"),
    },
)
class SlidingAttention(Attention):
    """softmax(q k^T / sqrt(d)) v over kernel x kernel taps around each query, `dilation` apart; taps off the map are zeros.

    A tap beyond the edge is no hidden key: its score (but for a position prior) and its value are 0, as in the official CUDA
    kernel, which pads keys and values. (There one head spans all channels, the un-normed input is added and a convolution
    follows; those are the block's.) `shift`: keys and values come from a map in which every fourth channel is rolled down,
    up, right or left by that many pixels, cyclically; the released code has no such shift, this one follows the paper's text.

    The map is cut in tiles of T x T queries, which see the M x M keys (M = T + kernel - 1) of a zero-padded map through one
    band mask. With N = H W: MACs 4 N C^2 + 2 N M^2 C executed, of which 2 N kernel^2 C is not masked.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, kernel: int, dilation: int, shift: int = 0, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, kernel // 2 + 1, heads=heads, **chosen)
        self.kernel, self.dilation, self.shift = kernel, dilation, shift

    def sources(self, x: Tensor) -> Tensor:
        """The map with shifted channels."""
        return shifted(x, self.shift) if self.shift else x

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tiles of each residue's own map."""
        batch, height, width, _ = x.shape
        step = self.dilation
        q, k, v = (residues(part, step) for part in (q, k, v))
        rows, columns = (tiling(n, self.kernel) for n in q.shape[1:3])
        q = cut(q, rows, columns, 1)
        k, v = (cut(part, rows, columns, self.kernel) for part in (k, v))
        apart = self._apart(rows[1], columns[1], x)
        seen = (torch.maximum(apart[0].abs(), apart[1].abs()) <= self.kernel // 2)[None]
        layout = Layout(apart[0][None], apart[1][None]) if self.position.places else None
        mixed = self.mix(x, q, k, v, layout, seen)
        mixed = mixed.unflatten(2, (rows[1], columns[1])).unflatten(1, (rows[0], columns[0])).transpose(2, 3)
        mixed = mixed.flatten(1, 2).flatten(2, 3)[:, : -(-height // step), : -(-width // step)]
        if step > 1:
            mixed = mixed.unflatten(0, (batch, step, step)).permute(0, 3, 1, 4, 2, 5).flatten(1, 2).flatten(2, 3)
        return mixed[:, :height, :width]

    def _apart(self, rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The offsets of a tile's keys from its queries along both axes, in taps: (rows * columns, M_h * M_w) each."""
        found = []
        for length in (rows, columns):
            key = torch.arange(length + self.kernel - 1, device=like.device) - self.kernel // 2
            found.append(key[None] - torch.arange(length, device=like.device)[:, None])
        shape = (rows, columns, found[0].shape[1], found[1].shape[1])
        down, right = found[0][:, None, :, None].expand(shape), found[1][None, :, None, :].expand(shape)
        return down.flatten(2).flatten(0, 1), right.flatten(2).flatten(0, 1)


def shifted(x: Tensor, shift: int) -> Tensor:
    """Every fourth channel rolled down, the next ones up, right, left."""
    ways = ((shift, 1), (-shift, 1), (shift, 2), (-shift, 2))
    return torch.stack([x[..., n::4].roll(*way) for n, way in enumerate(ways)], dim=-1).flatten(-2)


def residues(x: Tensor, step: int) -> Tensor:
    """The pixels of each residue modulo `step` as a map of its own: (B, H, W, C) -> (B step^2, H / step, W / step, C)."""
    if step == 1:
        return x
    x = F.pad(x, (0, 0, 0, -x.shape[2] % step, 0, -x.shape[1] % step))
    x = x.unflatten(1, (-1, step)).unflatten(3, (-1, step))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def tiling(length: int, kernel: int) -> tuple[int, int]:
    """Number of tiles along an axis, and queries a tile."""
    span = min(length, max(4, kernel))
    return -(-length // span), span


def cut(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], kernel: int) -> Tensor:
    """Tiles that overlap by kernel - 1, of a map with zeros around it: (B, H, W, C) -> (B, P, M_h * M_w, C)."""
    reach = kernel // 2
    after = [count * span - n + reach for (count, span), n in zip((rows, columns), x.shape[1:3], strict=True)]
    x = F.pad(x, (0, 0, reach, after[1], reach, after[0]))
    for dim, (count, span) in ((1, rows), (2, columns)):
        if kernel > 1:
            place = torch.arange(count, device=x.device)[:, None] * span + torch.arange(span + kernel - 1, device=x.device)
            x = x.index_select(dim, place.flatten())
    x = x.unflatten(1, (rows[0], -1)).unflatten(3, (columns[0], -1)).transpose(2, 3)
    return x.flatten(1, 2).flatten(2, 3)


def reference(module: SlidingAttention, x: Tensor) -> Tensor:
    """Query by query, over its taps."""
    x = attention_naive.prepared(module, x)
    height, width = x.shape[1:3]
    z = x.clone()
    for n, (down, right) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1)) if module.shift else ()):
        for i in range(height):
            for j in range(width):
                z[:, i, j, n::4] = x[:, (i - down * module.shift) % height, (j - right * module.shift) % width, n::4]
    reach, step = module.kernel // 2, module.dilation

    def sees(head: int, i: int, j: int) -> list[Pair]:
        taps = [(u, w) for u in range(-reach, reach + 1) for w in range(-reach, reach + 1)]
        return [Pair(u, w, (i, j), (i + u * step, j + w * step)) for u, w in taps]

    v = naive.linear(module.v, z)
    y = attention_naive.mixed(module, x, z, v, sees)
    return attention_naive.finished(module, x, y if module.lepe is None else y + naive.conv2d(module.lepe, v))


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 and two products of each tile's queries with its keys."""
    module = SlidingAttention(width, size, **settings)
    count, span = tiling(-(-size // module.dilation), module.kernel)
    tiles, keys = (module.dilation * count) ** 2, (span + module.kernel - 1) ** 2
    return attention_macs(module, size * size, size * size, tiles, span**2, keys)
