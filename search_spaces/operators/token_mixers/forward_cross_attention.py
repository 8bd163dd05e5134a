"""Global attention that also sees coarse summaries of what earlier blocks put out."""

from __future__ import annotations

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
class ForwardCrossAttention(nn.Module):
    """softmax([q k(x)^T + B, q k(s)^T + b] / sqrt(d)) [v(x), v(s)], s the summaries of at most the last `depth` blocks.

    A summary is DW7(e) at stride 4 of an earlier block's output e, times a learned factor for each of its places, layer
    normed; b is a learned bias for each place and head, B one for each pair of absolute row and column offsets. Both are not
    divided by sqrt(d). Factors and biases belong to how long ago a block was; on maps of another size than the module's they
    are interpolated, and offsets beyond the table share its last entries. With fewer earlier blocks than `depth` there are
    fewer keys; the first block of a stage, which has none, reads a summary of its own input.

    Officially a block makes its own summary once, between its attention and its MLP, with weights of its own; here the reader
    makes the summaries of the blocks' outputs, all with one convolution: as many parameters in a stage (each but its first
    block has the convolution, there each but the last one). The local convolution of the official block is another operator;
    where one official block is several here, `every` of them, the operator reads the `every`-th last block and those as far
    before it again. MACs with S = N / 16 places a summary and D summaries: 4 N C^2 + 2 N^2 C + D S C (49 + 2 C + 2 N).
    """

    def __init__(self, width: int, size: int, *, heads: int, depth: int, every: int = 1) -> None:
        super().__init__()
        depth = depth // every
        self.heads, self.depth, self.size, self.every = heads, depth, size, every
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.offset_bias = nn.Parameter(torch.empty(heads, size, size))
        nn.init.trunc_normal_(self.offset_bias, std=0.02)
        side = -(-size // STRIDE)
        self.summary = nn.Conv2d(width, width, KERNEL, STRIDE, KERNEL // 2, groups=width, bias=False)
        self.summary_scale = nn.Parameter(torch.ones(depth, side, side))
        self.summary_bias = nn.Parameter(torch.zeros(heads, depth, side, side))
        self.summary_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, *earlier: Tensor) -> Tensor:
        """(B, H, W, C), and the outputs of earlier blocks, the latest last -> (B, H, W, C)."""
        q, k, v = (layer(x).flatten(1, 2) for layer in (self.q, self.k, self.v))
        bias = self._offsets(x)
        latest = earlier[-self.every :: -self.every][: self.depth] if len(earlier) >= self.every else (x,)
        summaries = self.summary_norm(self._summaries(latest))
        k, v = torch.cat((k, self.k(summaries)), dim=1), torch.cat((v, self.v(summaries)), dim=1)
        places = placed(self.summary_bias[:, : len(latest)], x.shape[1], x.shape[2]).flatten(1)
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

    def _summaries(self, latest: tuple[Tensor, ...]) -> Tensor:
        """(B, D * S, C)."""
        maps = self.summary(torch.cat(latest).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        scale = placed(self.summary_scale[: len(latest)], latest[0].shape[1], latest[0].shape[2])
        maps = maps.unflatten(0, (len(latest), -1)) * scale[:, None, :, :, None]
        return maps.flatten(2, 3).transpose(0, 1).flatten(1, 2)


def placed(values: Tensor, height: int, width: int) -> Tensor:
    """What is learned for each place of a summary, for the summary of a height x width map: (..., h, w) -> (..., h', w')."""
    size = -(-height // STRIDE), -(-width // STRIDE)
    if values.shape[-2:] == size:
        return values
    flat = values.reshape(1, -1, *values.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).view(*values.shape[:-2], *size)


def reference(module: ForwardCrossAttention, x: Tensor, *earlier: Tensor) -> Tensor:
    """Query by query: first the map's own positions, then those of the summaries, block by block."""
    _, height, width, channels = x.shape
    heads, far = (module.heads, channels // module.heads), module.size - 1
    keys = [naive.linear(module.k, token).view(-1, *heads) for token in x.flatten(1, 2).unbind(1)]
    values = [naive.linear(module.v, token).view(-1, *heads) for token in x.flatten(1, 2).unbind(1)]
    biases = []
    blocks = [block for ago, block in enumerate(earlier[::-1], start=1) if ago % module.every == 0] or [x]
    for ago, block in enumerate(blocks[: module.depth]):
        scale = placed(module.summary_scale, height, width)[ago]
        summary = naive.layer_norm(module.summary_norm, naive.conv2d(module.summary, block) * scale[..., None])
        keys += [naive.linear(module.k, token).view(-1, *heads) for token in summary.flatten(1, 2).unbind(1)]
        values += [naive.linear(module.v, token).view(-1, *heads) for token in summary.flatten(1, 2).unbind(1)]
        biases += list(placed(module.summary_bias, height, width)[:, ago].flatten(1).unbind(1))
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
