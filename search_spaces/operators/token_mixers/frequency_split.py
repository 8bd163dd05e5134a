"""Inception mixer: convolution and maximum for high frequencies, attention on a pooled map for low ones, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.token_mixers.high_frequency_conv import HighFrequency, high_macs, high_reference
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, register


def _leaves_an_even_rest(value: Value, place: Place) -> bool:
    heads = int(place.chosen["heads"])
    return 1 <= int(value) < heads and (heads - int(value)) * (place.width // heads) % 2 == 0


@register(
    "frequency_split",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Si et al. 2022 (Inception Transformer), arXiv:2205.12956, section 3; official sail-sg/iFormer Mixer",
    settings={
        "heads": Setting(
            (2, 4, 8),
            rule=lambda v, place: int(v) >= 2 and place.width % int(v) == 0 and place.width // int(v) >= 4,
            because="at least two heads divide the channels and have at least 4 each",
        ),
        "attending": Setting(
            (1, 3),
            rule=_leaves_an_even_rest,
            because="at least one head attends, and the others, at least one, have an even number of channels together",
        ),
        "pool": Setting(
            (2, 1),
            rule=lambda v, place: 1 <= int(v) <= place.size,
            because="a pool is at least 1 and not larger than the map",
        ),
    },
)
class FrequencySplit(nn.Module):
    """project(u + fuse(u)), u = [`HighFrequency` of the first heads, attention of the others on a map pooled by `pool`].

    Of `heads` heads the last `attending` ones attend, to means over pool x pool pixels; the result is repeated over each pool.
    iFormer has pool 2 in its first two stages, and ever more attending heads. Pools that reach over the edge average what
    lies on the map (the official code needs square maps that pool divides). With L channels that attend, H = C - L and
    M = ceil(size / pool)^2 pooled positions: MACs N (H^2 + 9 H) + M (3 L^2 + 2 M L) + N (2 H + L) (9 + C).
    """

    def __init__(self, width: int, size: int, *, heads: int, attending: int, pool: int) -> None:
        super().__init__()
        low = width // heads * attending
        high, together = width - low, 2 * width - low
        self.attending, self.pool, self.widths = attending, pool, (high, low)
        self.high = HighFrequency(high, 3)
        self.q, self.k, self.v = (nn.Linear(low, low) for _ in range(3))
        self.fuse = nn.Conv2d(together, together, 3, padding=1, groups=together, bias=False)
        self.project = nn.Linear(together, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        high, low = x.split(self.widths, dim=-1)
        u = torch.cat((self.high(high), self._attend(low)), dim=-1)
        y: Tensor = self.project(u + self.fuse(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return y

    def _attend(self, x: Tensor) -> Tensor:
        """Attention among pooled positions, repeated to the map: (B, H, W, L) -> (B, H, W, L)."""
        coarse = pooled(x, self.pool)
        _, rows, columns, _ = coarse.shape
        tokens = coarse.flatten(1, 2)
        q, k, v = (split_heads(layer(tokens), self.attending) for layer in (self.q, self.k, self.v))
        mixed = join_heads(F.scaled_dot_product_attention(q, k, v)).unflatten(1, (rows, columns))
        if self.pool == 1:
            return mixed
        repeated = mixed[:, :, None, :, None].expand(-1, -1, self.pool, -1, self.pool, -1).flatten(3, 4).flatten(1, 2)
        return repeated[:, : x.shape[1], : x.shape[2]]


def pooled(x: Tensor, pool: int) -> Tensor:
    """Means over pool x pool pixels, of those on the map: (B, H, W, C) -> (B, ceil(H / pool), ceil(W / pool), C)."""
    if pool == 1:
        return x
    _, height, width, _ = x.shape
    below, beside = -height % pool, -width % pool
    means = F.avg_pool2d(F.pad(x, (0, 0, 0, beside, 0, below)).permute(0, 3, 1, 2), pool).permute(0, 2, 3, 1)
    if not below and not beside:
        return means
    rows, columns = (_shares(length, pool, x) for length in (height, width))
    return means / (rows[:, None] * columns)[..., None]


def _shares(length: int, pool: int, like: Tensor) -> Tensor:
    """Which share of each pool lies on the axis."""
    starts = torch.arange(0, length, pool, device=like.device)
    return ((length - starts).clamp(max=pool) / pool).to(like.dtype)


def reference(module: FrequencySplit, x: Tensor) -> Tensor:
    """Query by query, over every pool."""
    high, low = x.split(module.widths, dim=-1)
    pool, heads = module.pool, module.attending
    corners = [(i, j) for i in range(0, x.shape[1], pool) for j in range(0, x.shape[2], pool)]
    means = torch.stack([low[:, i : i + pool, j : j + pool].mean((1, 2)) for i, j in corners], dim=1)
    q, k, v = (naive.linear(layer, means).unflatten(-1, (heads, -1)).unbind(1) for layer in (module.q, module.k, module.v))
    answers = {at: naive.attend(query, list(k), list(v)).flatten(1) for at, query in zip(corners, q, strict=True)}
    lines = [
        torch.stack([answers[i // pool * pool, j // pool * pool] for j in range(x.shape[2])], dim=1) for i in range(x.shape[1])
    ]
    u = torch.cat((high_reference(module.high, high), torch.stack(lines, dim=1)), dim=-1)
    return naive.linear(module.project, u + naive.conv2d(module.fuse, u))


def macs(width: int, size: int, *, heads: int, attending: int, pool: int) -> int:
    """Multiply-adds for one image."""
    low = width // heads * attending
    tokens, together = (-(-size // pool)) ** 2, 2 * width - low
    attention = tokens * (3 * low**2 + 2 * tokens * low)
    return high_macs(width - low, size, 3) + attention + size**2 * together * (9 + width)
