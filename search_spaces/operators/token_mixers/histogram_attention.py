"""Attention between channels of value-sorted pixels, cut in bins of like values and in bins across all values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "histogram_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Sun et al. 2024 (Histoformer), arXiv:2407.10172, section 3.2; official histoformer_arch.py Attention_histogram",
    settings={
        "heads": HEADS,
        "bins": Setting(
            (0, 2, 4),
            rule=lambda v, place: 0 <= int(v) <= place.size**2,
            because="there are no more bins than positions; 0 stands for as many as heads",
            default=0,
        ),
        "bias": flag(False),
    },
)
class HistogramAttention(nn.Module):
    """y = out(attend(q1, k1, v by bins of like values) * attend(q2, k2, v by bins of every value)), each channel sorted by v.

    The first C / 2 channels of x are sorted, each by itself, along the columns and then along the rows; q1, k1, q2, k2 and v
    are a linear map and a 3x3 depth-wise convolution of that. Each channel's pixels are put in the order of its v, and cut in
    `bins` parts of neighbours (first attention) or of every `bins`-th pixel (second). A head attends between its
    channels x bins, whose vectors run over the pixels of a bin: with unit q and k, a learned temperature, and
    weights exp(s) / (1 + sum exp(s)). Then everything is put back in its place. The code, followed here, mixes positions by
    sorting and by the convolutions only. Maps that are no multiple of the bins are filled with zeros at the end. The official
    code has as many bins as heads, and no biases. With N = H W: MACs 6 N C^2 + 45 N C + 4 N bins C^2 / heads.
    """

    def __init__(self, width: int, size: int, *, heads: int, bins: int = 0, bias: bool = False) -> None:
        super().__init__()
        self.heads, self.bins = heads, bins or heads
        self.project = nn.ModuleList(nn.Linear(width, width, bias) for _ in range(5))
        self.conv = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias) for _ in range(5))
        self.temperature = nn.Parameter(torch.ones(heads))
        self.out = nn.Linear(width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C). What is sorted lies in rows of its own, channel by channel."""
        half, (height, width), x = x.shape[3] // 2, x.shape[1:3], x.permute(0, 3, 1, 2)
        front, down = in_order(x[:, :half].contiguous(), 2)
        front, right = in_order(front, 3)
        five = self._projected(torch.cat((front, x[:, half:]), dim=1)).flatten(2).contiguous()
        q1, k1, q2, k2, v = five.chunk(5, dim=1)
        v, place = in_order(v, 2)
        q1, k1, q2, k2 = (part.gather(2, place) for part in (q1, k1, q2, k2))
        mixed = self._attend(q1, k1, v, together=True) * self._attend(q2, k2, v, together=False)
        mixed = put_back(mixed, place, 2).transpose(1, 2).unflatten(1, (height, width))
        y: Tensor = self.out(mixed)
        front = put_back(put_back(y[..., :half].permute(0, 3, 1, 2), right, 3), down, 2)
        return torch.cat((front.permute(0, 2, 3, 1), y[..., half:]), dim=3)

    def _projected(self, x: Tensor) -> Tensor:
        """Both maps of all five, at once: (B, C, H, W) -> (B, 5 C, H, W)."""
        point, near = _joined(self.project), _joined(self.conv)
        x = F.conv2d(x, point[0][:, :, None, None], point[1])
        return F.conv2d(x, near[0], near[1], padding=1, groups=x.shape[1])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, together: bool) -> Tensor:
        """(B, C, N) three times -> (B, C, N); `together`: a bin is a run of neighbours, else every `bins`-th pixel."""
        count = v.shape[2]
        length = -(-count // self.bins)
        shape = (self.heads, -1, self.bins, length) if together else (self.heads, -1, length, self.bins)
        q, k, v = (F.pad(part, (0, self.bins * length - count)).unflatten(2, shape[2:]) for part in (q, k, v))
        q, k, v = (part if together else part.transpose(2, 3) for part in (q, k, v))
        q, k, v = (part.unflatten(1, (self.heads, -1)).flatten(2, 3) for part in (q, k, v))
        scores = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(2, 3)) * self.temperature[:, None, None]
        weights = scores.exp()
        mixed = (weights / (weights.sum(-1, keepdim=True) + 1)) @ v
        mixed = mixed.unflatten(2, (-1, self.bins)).flatten(1, 2)
        return (mixed if together else mixed.transpose(2, 3)).flatten(2)[:, :, :count]


def _joined(layers: Iterable[nn.Module]) -> tuple[Tensor, Tensor | None]:
    """The weights and biases of several layers one after the other."""
    every = [cast(nn.Linear | nn.Conv2d, layer) for layer in layers]
    biases = [layer.bias for layer in every if layer.bias is not None]
    return torch.cat([layer.weight for layer in every]), torch.cat(biases) if biases else None


def in_order(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x in rising order along a dimension, equal values in their own order, and where each came from."""
    if torch.compiler.is_exporting():
        values, place = x.sort(dim=dim)
    else:
        values, place = x.sort(dim=dim, stable=True)
    return values, place


def put_back(x: Tensor, place: Tensor, dim: int) -> Tensor:
    """The reverse of taking x in the order of `place`."""
    return torch.zeros_like(x).scatter(dim, place, x)


def reference(module: HistogramAttention, x: Tensor) -> Tensor:
    """Channel by channel: sort, project, sort by v, compare bins, and undo the sorting."""
    half, (batch, height, width, channels) = x.shape[3] // 2, x.shape
    ordered, down, right = x.clone(), {}, {}
    for b in range(batch):
        for c in range(half):
            for j in range(width):
                down[b, c, j] = _ranking(x[b, :, j, c])
                ordered[b, :, j, c] = x[b, :, j, c][down[b, c, j]]
            for i in range(height):
                right[b, c, i] = _ranking(ordered[b, i, :, c])
                ordered[b, i, :, c] = ordered[b, i, :, c].clone()[right[b, c, i]]
    parts = [
        naive.conv2d(conv, naive.linear(f, ordered)).flatten(1, 2)  # type: ignore[arg-type]
        for f, conv in zip(module.project, module.conv, strict=True)
    ]
    mixed = torch.zeros_like(parts[4])
    for b in range(batch):
        places = [_ranking(parts[4][b, :, c]) for c in range(channels)]
        q1, k1, q2, k2, v = ([part[b, :, c][places[c]] for c in range(channels)] for part in parts)
        first, second = _bins(module, q1, k1, v, True), _bins(module, q2, k2, v, False)
        for c in range(channels):
            mixed[b, places[c], c] = first[c] * second[c]
    y = naive.linear(module.out, mixed.view(x.shape))
    back = y.clone()
    for b in range(batch):
        for c in range(half):
            for i in range(height):
                back[b, i, right[b, c, i], c] = y[b, i, :, c]
            for j in range(width):
                back[b, down[b, c, j], j, c] = back[b, :, j, c].clone()
    return back


def _ranking(values: Tensor) -> list[int]:
    listed = values.tolist()
    return sorted(range(len(listed)), key=lambda n: (listed[n], n))


def _bins(module: HistogramAttention, q: list[Tensor], k: list[Tensor], v: list[Tensor], together: bool) -> list[Tensor]:
    """One image, each channel sorted: the mixed values of each channel."""
    count, depth = len(v[0]), len(v) // module.heads
    length = -(-count // module.bins)

    def vector(row: Tensor, n: int) -> Tensor:
        filled = torch.cat((row, row.new_zeros(module.bins * length - count)))
        return filled[n * length : (n + 1) * length] if together else filled[n :: module.bins]

    mixed = []
    for head in range(module.heads):
        group = range(head * depth, (head + 1) * depth)
        keys, values = (torch.stack([vector(rows[c], n) for c in group for n in range(module.bins)]) for rows in (k, v))
        for c in group:
            pieces = []
            for n in range(module.bins):
                weights = torch.exp((_unit(keys) * _unit(vector(q[c], n))).sum(1) * module.temperature[head])
                pieces.append((weights[:, None] * values).sum(0) / (1 + weights.sum()))
            mixed.append((torch.cat(pieces) if together else torch.stack(pieces, dim=1).flatten())[:count])
    return mixed


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors**2).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def macs(width: int, size: int, *, heads: int, bins: int = 0, bias: bool = False) -> int:
    """6 N C^2 + 45 N C and four products of channels x bins over the pixels of a bin."""
    pixels, bins = size**2, bins or heads
    return 6 * pixels * width**2 + 45 * pixels * width + 4 * heads * (width // heads * bins) ** 2 * -(-pixels // bins)
