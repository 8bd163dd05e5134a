"""Attention whose queries, keys and values come from depth-wise convolutions, those of keys and values with a stride."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import mix_fast
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "conv_projection_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wu et al. 2021 (CvT), arXiv:2103.15808, section 3.2; official lib/models/cls_cvt.py Attention with method dw_bn",
    settings={
        "heads": HEADS,
        "kernel": Setting((3, 5), lambda v, place: int(v) % 2 == 1 and int(v) >= 1, "a kernel is odd, so that it has a centre"),
        "stride": Setting(
            (2, 1),
            rule=lambda v, place: v == 1 or 1 < int(v) < place.size,
            because="the stride of keys and values is 1, or smaller than the map, which leaves several keys",
        ),
        "bias": flag(True),
        "class_token": flag(False),
    },
)
class ConvProjectionAttention(nn.Module):
    """softmax(q k^T / sqrt(C)) v with q = linear(BN(DW(x))), and k, v likewise from convolutions with `stride`.

    The scores are divided by the root of all channels, not of those of one head: so it is in the code, followed here. Edges
    are padded with zeros before the convolutions, whose rows and columns are ceil(H / stride), ceil(W / stride). With M = N /
    stride^2: MACs 2 N C^2 + 2 M C^2 + 2 N M C + kernel^2 C (N + 2 M).

    With `class_token` the first of all tokens passes by the convolutions, and the others are, row by row, the rectangle of so
    many pixels that is nearest to a square: the square map whose tokens stand behind a class token. A single token is a map.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, kernel: int, stride: int, bias: bool = True, class_token: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.class_token = heads, class_token
        self.q, self.k, self.v = (nn.Linear(width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.q_conv, self.k_conv, self.v_conv = (
            nn.Conv2d(width, width, kernel, step, kernel // 2, groups=width, bias=False) for step in (1, stride, stride)
        )
        self.q_norm, self.k_norm, self.v_norm = (nn.BatchNorm2d(width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        q = self.q(self._local(self.q_norm, self.q_conv, x))
        k = self.k(self._local(self.k_norm, self.k_conv, x))
        v = self.v(self._local(self.v_norm, self.v_conv, x))
        mixed = mix_fast(q[:, None], k[:, None], v[:, None], None, self.heads, x.shape[-1] ** -0.5)
        out: Tensor = self.out(mixed.view(x.shape))
        return out

    def _local(self, norm: nn.BatchNorm2d, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """The tokens behind one of the convolutions: (B, H, W, C) -> (B, M, C)."""
        tokens = x.flatten(1, 2)
        if not self.class_token or tokens.shape[1] == 1:
            return norm(conv(x.permute(0, 3, 1, 2))).flatten(2).transpose(1, 2)
        maps = tokens[:, 1:].unflatten(1, rectangle(tokens.shape[1] - 1)).permute(0, 3, 1, 2)
        return torch.cat((tokens[:, :1], norm(conv(maps)).flatten(2).transpose(1, 2)), dim=1)


def rectangle(pixels: int) -> tuple[int, int]:
    """Rows and columns of the rectangle of so many pixels that is nearest to a square and not taller than it."""
    rows = max(row for row in range(1, math.isqrt(pixels) + 1) if pixels % row == 0)
    return rows, pixels // rows


def reference(module: ConvProjectionAttention, x: Tensor) -> Tensor:
    """Query by query, over all keys."""
    heads = (module.heads, x.shape[-1] // module.heads)
    q, k, v = (
        naive.linear(layer, _local_reference(module, norm, conv, x)).unflatten(-1, heads)
        for layer, norm, conv in (
            (module.q, module.q_norm, module.q_conv),
            (module.k, module.k_norm, module.k_conv),
            (module.v, module.v_norm, module.v_conv),
        )
    )
    shorter = (heads[1] / x.shape[-1]) ** 0.5
    keys, values = list(k.unbind(1)), list(v.unbind(1))
    mixed = [naive.attend(query * shorter, keys, values).flatten(1) for query in q.unbind(1)]
    return naive.linear(module.out, torch.stack(mixed, dim=1)).view(x.shape)


def _local_reference(module: ConvProjectionAttention, norm: nn.BatchNorm2d, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The tokens behind one of the convolutions, (B, M, C)."""
    first = x.shape[1] * x.shape[2] > 1 and module.class_token
    if not first:
        return naive.batch_norm(norm, naive.conv2d(conv, x)).flatten(1, 2)
    tokens = list(x.flatten(1, 2).unbind(1))
    columns = next(n for n in range(1, len(tokens)) if n * n >= len(tokens) - 1 and (len(tokens) - 1) % n == 0)
    rows = [torch.stack(tokens[start : start + columns], dim=1) for start in range(1, len(tokens), columns)]
    mixed = naive.batch_norm(norm, naive.conv2d(conv, torch.stack(rows, dim=1)))
    return torch.cat((tokens[0][:, None], mixed.flatten(1, 2)), dim=1)


def macs(width: int, size: int, **settings: Any) -> int:
    """2 N C^2 + 2 M C^2 + 2 N M C + kernel^2 C (N + 2 M), the class token counted in all but the convolutions."""
    first = int(settings.get("class_token", False) and size > 1)
    rows, columns = rectangle(size**2 - 1) if first else (size, size)
    pixels, cells = rows * columns, -(-rows // settings["stride"]) * -(-columns // settings["stride"])
    tokens, keys = pixels + first, cells + first
    convolutions = settings["kernel"] ** 2 * width * (pixels + 2 * cells)
    return 2 * width**2 * (tokens + keys) + 2 * tokens * keys * width + convolutions
