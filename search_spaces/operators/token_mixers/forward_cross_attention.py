"""Global attention that also sees coarse summaries of what earlier blocks put out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import mix_fast
from nas.search_spaces.registry import Group, Kind, Setting, register

STRIDE, KERNEL = 4, 7
"""Of the depth-wise convolution that makes summaries."""


class CrossAttention(nn.Module):
    """softmax([q k(x)^T + B, q k(s)^T + b] / sqrt(d)) [v(x), v(s)], s the normed summaries of at most `depth` blocks.

    A summary is multiplied by a learned factor for each of its places; b is a learned bias for each place and head, B one for
    each pair of absolute row and column offsets. Both are not divided by sqrt(d). Factors and biases belong to how long ago a
    block was; on maps of another size than the module's they are interpolated, and offsets beyond the table share its last
    entries. With fewer summaries than `depth` there are fewer keys.
    """

    def __init__(self, width: int, size: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads, self.depth, self.size = heads, depth, size
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.offset_bias = nn.Parameter(torch.empty(heads, size, size))
        nn.init.trunc_normal_(self.offset_bias, std=0.02)
        side = -(-size // STRIDE)
        self.summary_scale = nn.Parameter(torch.ones(depth, side, side))
        self.summary_bias = nn.Parameter(torch.zeros(heads, depth, side, side))
        self.summary_norm = nn.LayerNorm(width)

    def attended(self, x: Tensor, summaries: Tensor) -> Tensor:
        """(B, H, W, C), and summaries (D, B, h, w, C), the latest first -> (B, H, W, C)."""
        depth, height, width = len(summaries), *x.shape[1:3]
        q, k, v = (layer(x).flatten(1, 2) for layer in (self.q, self.k, self.v))
        scale = placed(self.summary_scale[:depth], height, width)[:, None, :, :, None]
        told = self.summary_norm((summaries * scale).flatten(2, 3).transpose(0, 1).flatten(1, 2))
        k, v = torch.cat((k, self.k(told)), dim=1), torch.cat((v, self.v(told)), dim=1)
        bias = self._offsets(x)
        places = placed(self.summary_bias[:, :depth], height, width).flatten(1)
        bias = torch.cat((bias, places[:, None].expand(-1, bias.shape[1], -1)), dim=-1)
        mixed = mix_fast(q[:, None], k[:, None], v[:, None], bias[None], self.heads, None)
        out: Tensor = self.out(mixed.view(x.shape))
        return out

    def _offsets(self, x: Tensor) -> Tensor:
        """(heads, N, N)."""
        height, width = x.shape[1:3]
        rows, columns = (
            (places - places[:, None]).abs().clamp(max=self.size - 1)
            for places in (torch.arange(n, device=x.device) for n in (height, width))
        )
        index = rows[:, None, :, None] * self.size + columns[None, :, None, :]
        return self.offset_bias.flatten(1).index_select(1, index.flatten()).view(self.heads, height * width, -1)


@register(
    "forward_cross_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhang et al. 2022 (FcaFormer), arXiv:2211.07198, section 3; official fcaformer.py FcaBlock",
    side="history",
    settings={
        "heads": HEADS,
        "depth": Setting(
            (1, 2, 4),
            lambda v, place: 1 <= int(v) <= 128,
            "it reads at least one earlier block (without, it is global_attention)",
        ),
        "every": Setting(
            (1, 2, 3),
            lambda v, place: 1 <= int(v) <= int(place.chosen["depth"]),
            "it reads each block, each second one, ..., at least one of the `depth` blocks",
            1,
        ),
    },
)
class ForwardCrossAttention(CrossAttention):
    """`CrossAttention` to summaries DW7(e) at stride 4 of the outputs e of at most the last `depth` blocks, which it makes.

    The first block of a stage, which has none before it, reads a summary of its own input. In FcaFormer each block makes its
    own summary (`summarising_conv`, read by `summary_cross_attention`); here the reader makes all with one convolution, so
    that the earlier blocks may be of any kind: as many parameters in a stage. Where one published block is several here,
    `every` of them, it reads the `every`-th last block and those as far before it again. MACs with S = N / 16 places a summary
    and D summaries: 4 N C^2 + 2 N^2 C + D S C (49 + 2 C + 2 N).
    """

    def __init__(self, width: int, size: int, *, heads: int, depth: int, every: int = 1) -> None:
        super().__init__(width, size, heads, depth // every)
        self.every = every
        self.summary = nn.Conv2d(width, width, KERNEL, STRIDE, KERNEL // 2, groups=width, bias=False)

    def forward(self, x: Tensor, *earlier: Tensor) -> Tensor:
        """(B, H, W, C), and the outputs of earlier blocks, the latest last -> (B, H, W, C)."""
        latest = earlier[-self.every :: -self.every][: self.depth] if len(earlier) >= self.every else (x,)
        maps = self.summary(torch.cat(latest).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.attended(x, maps.unflatten(0, (len(latest), -1)))


def placed(values: Tensor, height: int, width: int) -> Tensor:
    """What is learned for each place of a summary, for the summary of a height x width map: (..., h, w) -> (..., h', w')."""
    size = -(-height // STRIDE), -(-width // STRIDE)
    if values.shape[-2:] == size:
        return values
    flat = values.reshape(1, -1, *values.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).view(*values.shape[:-2], *size)


def placed_reference(values: Tensor, height: int, width: int) -> Tensor:
    """As `placed`, place by place: a mean of the values within a step, by how near they are."""
    known, rows = [(m, n) for m in range(values.shape[-2]) for n in range(values.shape[-1])], []
    for i in range(-(-height // STRIDE)):
        row = []
        for j in range(-(-width // STRIDE)):
            found = torch.zeros_like(values[..., 0, 0])
            for m, n in known:
                down = _nearness(m, values.shape[-2], i, -(-height // STRIDE))
                found = found + values[..., m, n] * down * _nearness(n, values.shape[-1], j, -(-width // STRIDE))
            row.append(found)
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)


def _nearness(known: int, length: int, place: int, places: int) -> float:
    """1 at distance 0 down to 0 at distance 1, of one of `length` values from one of several `places` along the same axis."""
    where = (place + 0.5) * length / places - 0.5
    return max(0.0, 1 - abs(min(max(where, 0.0), length - 1.0) - known))


def reference(module: ForwardCrossAttention, x: Tensor, *earlier: Tensor) -> Tensor:
    """The summaries tap by tap, then query by query."""
    blocks = [block for ago, block in enumerate(earlier[::-1], start=1) if ago % module.every == 0] or [x]
    return attended_reference(module, x, [naive.conv2d(module.summary, block) for block in blocks[: module.depth]])


def attended_reference(module: CrossAttention, x: Tensor, summaries: Sequence[Tensor]) -> Tensor:
    """Query by query: first the map's own positions, then those of the summaries, the latest first."""
    _, height, width, channels = x.shape
    heads, far = (module.heads, channels // module.heads), module.size - 1
    keys = [naive.linear(module.k, token).view(-1, *heads) for token in x.flatten(1, 2).unbind(1)]
    values = [naive.linear(module.v, token).view(-1, *heads) for token in x.flatten(1, 2).unbind(1)]
    biases = []
    for ago, told in enumerate(summaries):
        scale = placed_reference(module.summary_scale[ago], height, width)
        summary = naive.layer_norm(module.summary_norm, told * scale[..., None])
        keys += [naive.linear(module.k, token).view(-1, *heads) for token in summary.flatten(1, 2).unbind(1)]
        values += [naive.linear(module.v, token).view(-1, *heads) for token in summary.flatten(1, 2).unbind(1)]
        biases += list(placed_reference(module.summary_bias[:, ago], height, width).flatten(1).unbind(1))
    mixed = []
    for i in range(height):
        for j in range(width):
            offsets = [
                module.offset_bias[:, min(abs(m - i), far), min(abs(n - j), far)] for m in range(height) for n in range(width)
            ]
            query = naive.linear(module.q, x[:, i, j]).view(-1, *heads)
            mixed.append(naive.attend(query, keys, values, [*offsets, *biases]).flatten(1))
    return naive.linear(module.out, torch.stack(mixed, dim=1)).view(x.shape)


def macs(width: int, size: int, *, earlier: int = 1, **settings: Any) -> int:
    """4 N C^2 + 2 N^2 C, and D S C (49 + 2 C + 2 N) for `earlier` blocks, of which at most `depth` count."""
    blocks = max(min(earlier, settings["depth"]) // settings.get("every", 1), 1)
    pixels, places = size**2, blocks * (-(-size // STRIDE)) ** 2
    return 2 * pixels * width * (2 * width + pixels) + places * width * (KERNEL**2 + 2 * width + 2 * pixels)
