"""Attention of three channel groups to keys of three grains: a coarse map, and prototypes of near and of dilated windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention_base import mix_fast
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, flag, register


def groups(width: int, reduction: int) -> tuple[int, ...]:
    """Channels of the coarse group and of the window groups: 2 : 7 : 7, or 1 : 7 where nothing is reduced."""
    return (width // 8, 7 * (width // 8)) if reduction == 1 else (width // 8, 7 * (width // 16), 7 * (width // 16))


def _heads_divide(value: Value, place: Place) -> bool:
    return int(value) >= 1 and place.width % 8 == 0 and 7 * (place.width // 8) % int(value) == 0


def _groups_divide(value: Value, place: Place) -> bool:
    if value == 1:
        return True
    parts = groups(place.width, int(value))
    return 1 < int(value) < place.size and place.width % 16 == 0 and parts[1] % int(place.chosen["heads"]) == 0


@register(
    "factorised_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Qin et al. 2023 (FaViT), arXiv:2312.08614, section 3.2 (FaSA); official FaViT/classification/favit.py Attention",
    settings={
        "heads": Setting(
            (1, 2, 4, 8), _heads_divide, "the width is a multiple of 8, and the heads divide the channels of a window group"
        ),
        "reduction": Setting(
            (8, 4, 2, 1),
            _groups_divide,
            "1, or smaller than the map, where 16 divides the width and the heads 7/16 of it",
        ),
        "window": Setting((3, 7), lambda v, place: 1 <= int(v) <= place.size, "a window is not larger than the map"),
        "bias": flag(True),
    },
)
class FactorisedAttention(nn.Module):
    """Channels in groups 2 : 7 : 7 (1 : 7 for reduction 1), each attending to keys of its own; then one projection.

    The first group attends, with one head, to the layer norm of a strided convolution of its channels. The others, with
    `heads` heads, attend to window x window prototypes: a depth-wise separable convolution y of their channels is cut into
    windows, whose window x window pixels lie 1 (second group) or `reduction` (third) apart, and what lies at one place of all
    windows is averaged. Values receive a depth-wise 3 x 3 convolution of themselves.

    Two things follow the code rather than the paper. Windows step by reduction * (window - 1) + 1, so that most pixels of the
    third group are in no prototype. And the average over n windows runs over n neighbours in the flattened (window, channel)
    order, so that channels are mixed too, unless there is one window. Maps that windows do not divide are reflected at the
    bottom and right, again and again where they are small; coarse keys are padded with zeros (the code drops the rest). With M
    coarse keys, L = window, and g channels in the first group: MACs 2 N C^2 + N (C - g)^2 + 2 N M g + 2 N L^2 (C - g), and
    small ones for the convolutions and prototypes.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, window: int, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.reduction, self.window = heads, reduction, window
        self.parts = groups(width, reduction)
        coarse, local = self.parts[0], width - self.parts[0]
        self.q, self.out = nn.Linear(width, width, bias), nn.Linear(width, width)
        self.reduce = nn.Conv2d(coarse, coarse, reduction, reduction)
        self.norm = nn.LayerNorm(coarse)
        self.k, self.v = nn.Linear(coarse, coarse, bias), nn.Linear(coarse, coarse, bias)
        self.value_conv = nn.Conv2d(coarse, coarse, 3, padding=1, groups=coarse)
        self.depthwise, self.pointwise = nn.Conv2d(local, local, 3, padding=1, groups=local), nn.Linear(local, local)
        self.windows = nn.ModuleList(
            Prototypes(part, heads, window, dilation, bias)
            for part, dilation in zip(self.parts[1:], (1, reduction), strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        q = self.q(x).flatten(1, 2)
        mixed = [self._coarse(q[..., : self.parts[0]], x[..., : self.parts[0]])]
        y = self.pointwise(self.depthwise(x[..., self.parts[0] :].permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        shares = q[..., self.parts[0] :].unflatten(-1, (self.heads, -1)).split([p // self.heads for p in self.parts[1:]], -1)
        for part, share, windows in zip(y.split(self.parts[1:], -1), shares, self.windows, strict=True):
            keys, values = windows(part)
            mixed.append(mix_fast(share.flatten(-2)[:, None], keys[:, None], values[:, None], None, self.heads, None)[:, 0])
        out: Tensor = self.out(torch.cat(mixed, dim=-1)).view(x.shape)
        return out

    def _coarse(self, q: Tensor, x: Tensor) -> Tensor:
        """The first group's attention: (B, N, g), (B, H, W, g) -> (B, N, g)."""
        right, down = -x.shape[2] % self.reduction, -x.shape[1] % self.reduction
        padded = F.pad(x.permute(0, 3, 1, 2), (0, right, 0, down))
        z = self.norm(self.reduce(padded).permute(0, 2, 3, 1))
        v = self.v(z)
        v = v + self.value_conv(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return mix_fast(q[:, None], self.k(z).flatten(1, 2)[:, None], v.flatten(1, 2)[:, None], None, 1, None)[:, 0]


class Prototypes(nn.Module):
    """Keys and values made of what lies at one place of all windows: (B, H, W, C) -> twice (B, L^2, C)."""

    def __init__(self, width: int, heads: int, window: int, dilation: int, bias: bool) -> None:
        super().__init__()
        self.heads, self.window, self.dilation = heads, window, dilation
        depth = width // heads
        self.first, self.k, self.v = (nn.Linear(depth, depth, bias) for _ in range(3))
        self.value_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The heads share the linear layers; the values' convolution is over the L x L prototypes."""
        rows, columns = (reflected(length, self.window, self.dilation, x) for length in x.shape[1:3])
        taps = x.index_select(1, rows.flatten()).index_select(2, columns.flatten())
        taps = taps.unflatten(2, columns.shape).unflatten(1, rows.shape).unflatten(-1, (self.heads, -1))
        n, depth = rows.shape[0] * columns.shape[0], taps.shape[-1]
        listed = taps.permute(0, 2, 4, 5, 1, 3, 6).reshape(x.shape[0], self.window, self.window, self.heads, depth, n)
        means = self.first(listed.mean(-1))
        keys, values = self.k(means).flatten(-2), self.v(means).flatten(-2)
        values = values + self.value_conv(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return keys.flatten(1, 2), values.flatten(1, 2)


def reflected(length: int, window: int, dilation: int, like: Tensor) -> Tensor:
    """Where the pixels of all windows lie on an axis that is reflected at its end: (number of windows, window)."""
    step = dilation * (window - 1) + 1
    starts = torch.arange(-(-length // step), device=like.device) * step
    places = starts[:, None] + dilation * torch.arange(window, device=like.device)
    period = max(2 * (length - 1), 1)
    return length - 1 - (places % period - (length - 1)).abs()


def reference(module: FactorisedAttention, x: Tensor) -> Tensor:
    """Group by group, query by query."""
    batch, height, width, _ = x.shape
    first, r = module.parts[0], module.reduction
    queries = naive.linear(module.q, x).flatten(1, 2)
    padded = x.new_zeros(batch, -(-height // r) * r, -(-width // r) * r, first)
    padded[:, :height, :width] = x[..., :first]
    z = naive.layer_norm(module.norm, naive.conv2d(module.reduce, padded))
    v = naive.linear(module.v, z)
    v = v + naive.conv2d(module.value_conv, v)
    keys = [naive.linear(module.k, z).flatten(1, 2)]
    values, heads, wanted = [v.flatten(1, 2)], [1], [queries[..., :first]]
    y = naive.linear(module.pointwise, naive.conv2d(module.depthwise, x[..., first:]))
    share, start = queries[..., first:].unflatten(-1, (module.heads, -1)), 0
    for windows in module.windows:
        assert isinstance(windows, Prototypes)
        part = windows.value_conv.in_channels
        key, value = prototypes_reference(windows, y[..., start : start + part])
        depth = part // module.heads
        keys, values, heads = [*keys, key], [*values, value], [*heads, module.heads]
        wanted.append(share[..., start // module.heads : start // module.heads + depth].flatten(-2))
        start += part
    mixed = [
        torch.stack([_attended(q, k, v, n) for q in q_all.unbind(1)], dim=1)
        for q_all, k, v, n in zip(wanted, keys, values, heads, strict=True)
    ]
    return naive.linear(module.out, torch.cat(mixed, dim=-1)).view(x.shape)


def _attended(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """(B, c), (B, M, c), (B, M, c) -> (B, c)."""
    k, v = (list(part.unflatten(-1, (heads, -1)).unbind(1)) for part in (keys, values))
    return naive.attend(query.unflatten(-1, (heads, -1)), k, v).flatten(1)


def prototypes_reference(module: Prototypes, x: Tensor) -> tuple[Tensor, Tensor]:
    """Prototype by prototype: keys and values (B, L^2, C)."""
    batch, height, width, channels = x.shape
    side, gap, depth = module.window, module.dilation, channels // module.heads
    step = gap * (side - 1) + 1
    found = []
    for a in range(side):
        for b in range(side):
            seen = [
                x[:, mirrored(top + a * gap, height), mirrored(left + b * gap, width)]
                for top in range(0, height, step)
                for left in range(0, width, step)
            ]
            flat = torch.stack(seen, dim=1).view(batch, len(seen), module.heads, depth).transpose(1, 2).flatten(2)
            found.append(torch.stack([piece.mean(-1) for piece in flat.split(len(seen), dim=-1)], dim=-1))
    means = naive.linear(module.first, torch.stack(found, dim=1))
    keys, values = naive.linear(module.k, means).flatten(2), naive.linear(module.v, means).flatten(2)
    return keys, values + naive.conv2d(module.value_conv, values.unflatten(1, (side, side))).flatten(1, 2)


def mirrored(place: int, length: int) -> int:
    """Where a walk of `place` steps ends that turns round at both ends of an axis."""
    at, forward = 0, True
    for _ in range(place if length > 1 else 0):
        forward = (at < length - 1) if forward else at == 0
        at += 1 if forward else -1
    return at


def macs(width: int, size: int, **settings: Any) -> int:
    """Projections, convolutions, prototypes and products."""
    heads, reduction, side = settings["heads"], settings["reduction"], settings["window"] ** 2
    parts, pixels = groups(width, reduction), size**2
    first, local, keys = parts[0], width - parts[0], (-(-size // reduction)) ** 2
    coarse = keys * first * (first * reduction**2 + 2 * first + 9) + 2 * pixels * keys * first
    prototypes = sum(side * part * (3 * (part // heads) + 9) + 2 * pixels * side * part for part in parts[1:])
    return 2 * pixels * width**2 + coarse + pixels * local * (9 + local) + prototypes
