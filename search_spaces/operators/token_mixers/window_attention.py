"""Attention inside square windows, optionally shifted, with a relative-position bias."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators.attention import HEADS, attend_in_tiles
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "window_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Liu et al. 2021 (Swin), arXiv:2103.14030, eq. 2-4; official swin_transformer.py WindowAttention",
    settings={
        "heads": HEADS,
        "window": Setting(
            (2, 4, 7, 8, 14),
            rule=lambda v, place: 2 <= int(v) <= place.size,
            because="a window is at least 2 and not larger than the map",
        ),
        "shift": Setting(
            (False, True),
            rule=lambda v, place: not v or int(place.chosen["window"]) < place.size,
            because="windows are shifted only where they are smaller than the map",
        ),
    },
)
class WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + B) v among the tokens of each window; B is read from a table by relative position.

    With `shift` the windows move by window // 2 and tokens that were not neighbours before the cyclic roll do not see each
    other. Maps that are no multiple of the window are padded at the bottom and right; padded keys are masked (the official
    code lets them take part; for the published sizes there is no padding). MACs: 4 N C^2 + 2 N window^2 C.
    """

    offset: Tensor
    centred: ClassVar[dict[str, tuple[int, ...]]] = {"bias_table": (0, 1)}

    def __init__(self, width: int, size: int, *, heads: int, window: int, shift: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, window // 2 if shift else 0
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.bias_table = nn.Parameter(torch.empty(2 * window - 1, 2 * window - 1, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("offset", relative_offsets(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        w, down, right = self.window, -height % self.window, -width % self.window
        if down or right:
            x = F.pad(x, (0, 0, 0, right, 0, down))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        x = x.view(batch, rows, w, columns, w, channels).transpose(2, 3).reshape(batch, rows * columns, w * w, channels)
        x = self.out(attend_in_tiles(self.q(x), self.k(x), self.v(x), self._bias(height, width)))
        x = x.view(batch, rows, columns, w, w, channels).transpose(2, 3).reshape(batch, rows * w, columns * w, channels)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width] if down or right else x

    def _bias(self, height: int, width: int) -> Tensor:
        """The bias (1, heads, w^2, w^2), or with the mask of a shifted or padded map (windows, heads, w^2, w^2)."""
        tokens = self.window**2
        bias = self.bias_table.flatten(0, 1)[self.offset].view(tokens, tokens, self.heads).permute(2, 0, 1)[None]
        if not self.shift and height % self.window == 0 and width % self.window == 0:
            return bias
        return bias + window_mask(height, width, self.window, self.shift, bias)[:, None]


def relative_offsets(window: int) -> Tensor:
    """For each pair of tokens of a window, the row of the flattened (2w - 1)^2 table: (w^4,)."""
    steps = torch.arange(window)
    delta = steps[:, None] - steps[None, :] + window - 1
    rows = delta[:, None, :, None].expand(window, window, window, window)
    return (rows * (2 * window - 1) + delta[None, :, None, :]).flatten()


def window_mask(height: int, width: int, window: int, shift: int, like: Tensor) -> Tensor:
    """0 where two tokens of a window may see each other, -1e4 where the roll or the padding put them: (windows, w^2, w^2)."""
    regions = _bands(width, window, shift, like)[None, :] + 4 * _bands(height, window, shift, like)[:, None]
    rows, columns = regions.shape[0] // window, regions.shape[1] // window
    parts = regions.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, window * window)
    return (parts[:, :, None] != parts[:, None, :]).to(like.dtype) * -1e4


def _bands(length: int, window: int, shift: int, like: Tensor) -> Tensor:
    """The band of each position after padding and rolling: 0 body, 1 shifted edge, 2 wrapped around, 3 padding."""
    padded = length + -length % window
    band = torch.zeros(padded, device=like.device)
    if shift:
        band[padded - window : padded - shift] = 1
        band[padded - shift :] = 2
    original = (torch.arange(padded, device=like.device) + shift) % padded
    return torch.where(original < length, band, torch.full_like(band, 3.0))


def reference(module: WindowAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels that lie in the same window of the shifted partition."""
    batch, height, width, channels = x.shape
    w, s, depth = module.window, module.shift, channels // module.heads
    padded = (height + -height % w, width + -width % w)
    out = torch.zeros_like(x)
    q, k, v = (f(x).view(batch, height, width, module.heads, depth) for f in (module.q, module.k, module.v))
    for i in range(height):
        for j in range(width):
            home = _home(i, j, w, s, padded)
            mates = [(y, z) for y in range(height) for z in range(width) if _home(y, z, w, s, padded) == home]
            scores = torch.stack(
                [
                    (q[:, i, j] * k[:, y, z]).sum(-1) / depth**0.5 + module.bias_table[i - y + w - 1, j - z + w - 1]
                    for y, z in mates
                ]
            )
            weights = scores.softmax(0)
            mixed = sum(weights[n][..., None] * v[:, y, z] for n, (y, z) in enumerate(mates))
            out[:, i, j] = module.out(mixed.flatten(1))
    return out


def _home(i: int, j: int, window: int, shift: int, padded: tuple[int, int]) -> tuple[int, ...]:
    """The window that a pixel falls in, and whether the roll wrapped it around each axis."""
    y, z = i - shift, j - shift
    return (y % padded[0] // window, z % padded[1] // window, int(y < 0), int(z < 0))
