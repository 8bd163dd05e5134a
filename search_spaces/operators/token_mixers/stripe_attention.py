"""Attention inside stripes that cross the whole map, vertical for half of the heads and horizontal for the others."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import EVEN_HEADS
from nas.search_spaces.operators.attention_base import LEPE, Attention, Modifiers, modifiers, projection_macs
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.operators.token_mixers.global_attention import everywhere
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "stripe_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Dong et al. 2022 (CSWin), arXiv:2107.00652, eq. 3-6 and 10; official cswin.py CSWinBlock, LePEAttention",
    settings={
        "heads": EVEN_HEADS,
        "stripe": Setting(
            (1, 2, 4, 7),
            rule=lambda v, place: 1 <= int(v) <= place.size,
            because="a stripe is at least one pixel and not wider than the map",
        ),
        **modifiers("none", own_map=True),
        "lepe": Setting((3, 0, 5), LEPE.rule, LEPE.because, 3),
    },
)
class StripeAttention(Attention):
    """The first half of the heads attends in vertical stripes of H x stripe pixels, the second in horizontal ones.

    The depth-wise convolution of the values stays inside the stripes. Maps whose sides are no multiple of the stripe are
    padded at the bottom and right, padded keys masked (the official code refuses such maps); a last stage with stripes as
    large as the map is global_attention with lepe=3. Stripes of 1 are axial attention with split heads. MACs:
    4 N C^2 + N stripe (H + W) C + 9 N C.
    """

    def __init__(self, width: int, size: int, *, heads: int, stripe: int, **chosen: Unpack[Modifiers]) -> None:
        super().__init__(width, size, heads=heads, usual_lepe=3, **chosen)
        self.stripe = stripe

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each stripe is a tile; the halves are treated as two maps."""
        height, width, half = x.shape[1], x.shape[2], self.heads // 2
        mixed = []
        for n, part in ((0, slice(0, half)), (1, slice(half, self.heads))):
            upright = n == 0
            tiles = [stripes(m.chunk(2, dim=3)[n], self.stripe, upright).flatten(2, 3) for m in (q, k, v)]
            layout = self._layout(height, width, upright, x) if self.position.places else None
            seen = seen_in_stripes(height, width, self.stripe, upright, x)
            out = self.mix(x, tiles[0], tiles[1], tiles[2], layout, seen, part)
            mixed.append(joined(out, height, width, self.stripe, upright))
        return torch.cat(mixed, dim=3)

    def enhance(self, v: Tensor, lepe: nn.Conv2d) -> Tensor:
        """The convolution inside each stripe: (B, H, W, C)."""
        local = []
        for n, upright in ((0, True), (1, False)):
            tiles = stripes(v.chunk(2, dim=3)[n], self.stripe, upright)
            weight, bias = lepe.weight.chunk(2)[n], None if lepe.bias is None else lepe.bias.chunk(2)[n]
            flat = tiles.flatten(0, 1).permute(0, 3, 1, 2)
            out = F.conv2d(flat, weight, bias, padding=lepe.padding, groups=flat.shape[1])
            local.append(joined(out.permute(0, 2, 3, 1).reshape(tiles.shape), v.shape[1], v.shape[2], self.stripe, upright))
        return torch.cat(local, dim=3)

    def _layout(self, height: int, width: int, upright: bool, like: Tensor) -> Layout:
        """The layout of a stripe, and where the tokens of all are on the map."""
        layout = everywhere(height if upright else self.stripe, self.stripe if upright else width, like)
        if not self.position.own_map:
            return layout
        place = torch.arange(height * width, device=like.device).view(1, height, width, 1)
        at = stripes(place, self.stripe, upright).flatten(2)[0]
        return Layout(layout.rows, layout.columns, at, at)


def stripes(x: Tensor, stripe: int, upright: bool) -> Tensor:
    """(B, H, W, C) -> (B, P, H, stripe, C) or (B, P, stripe, W, C), the last stripe filled up with zeros."""
    missing = -x.shape[2 if upright else 1] % stripe
    if missing:
        x = F.pad(x, (0, 0, 0, missing) if upright else (0, 0, 0, 0, 0, missing))
    return x.unflatten(2, (-1, stripe)).transpose(1, 2) if upright else x.unflatten(1, (-1, stripe))


def joined(tiles: Tensor, height: int, width: int, stripe: int, upright: bool) -> Tensor:
    """The inverse of `stripes`, also for flattened stripes: (B, H, W, C)."""
    batch, count, channels = tiles.shape[0], tiles.shape[1], tiles.shape[-1]
    if not upright:
        return tiles.reshape(batch, count * stripe, width, channels)[:, :height]
    x = tiles.reshape(batch, count, height, stripe, channels).transpose(1, 2)
    return x.reshape(batch, height, count * stripe, channels)[:, :, :width]


def seen_in_stripes(height: int, width: int, stripe: int, upright: bool, like: Tensor) -> Tensor | None:
    """Which keys are no padding, (P, N, N); None where there is none."""
    length = width if upright else height
    if length % stripe == 0:
        return None
    place = torch.arange(length + -length % stripe, device=like.device).view(-1, stripe) < length
    shape = (place.shape[0], height, stripe) if upright else (place.shape[0], stripe, width)
    inside = (place[:, None] if upright else place[:, :, None]).expand(shape).flatten(1)
    return inside[:, None].expand(-1, inside.shape[1], -1)


def reference(module: StripeAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels of its stripe; the convolution stripe by stripe."""
    height, width, stripe = x.shape[1], x.shape[2], module.stripe

    def sees(head: int, i: int, j: int) -> list[Pair]:
        first, across = head < module.heads // 2, (i // stripe * stripe, j // stripe * stripe)
        rows = range(height) if first else range(across[0], min(across[0] + stripe, height))
        columns = range(across[1], min(across[1] + stripe, width)) if first else range(width)
        return [Pair(y - i, z - j, (i, j), (y, z)) for y in rows for z in columns]

    x = attention_naive.prepared(module, x)
    v = naive.linear(module.v, x)
    y = attention_naive.mixed(module, x, x, v, sees)
    if module.lepe is not None:
        lepe, half = module.lepe, x.shape[3] // 2
        upright = [naive.conv2d(lepe, v[:, :, n : n + stripe])[..., :half] for n in range(0, width, stripe)]
        level = [naive.conv2d(lepe, v[:, n : n + stripe])[..., half:] for n in range(0, height, stripe)]
        y = y + torch.cat((torch.cat(upright, dim=2), torch.cat(level, dim=1)), dim=3)
    return attention_naive.finished(module, x, y)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + N stripe (H + W) C + k^2 N C for the plain form, N in the mixing with the padding."""
    module, pixels = StripeAttention(width, size, **settings), size * size
    count, tokens = -(-size // module.stripe), size * module.stripe
    mixing = count * tokens**2 * (module.q.out_features + width)
    local = 0 if module.lepe is None else count * tokens * width * module.lepe.kernel_size[0] ** 2
    position = module.position.macs(tokens, tokens, 1, count, pixels, 2)
    return projection_macs(module, pixels, pixels) + mixing + local + position
