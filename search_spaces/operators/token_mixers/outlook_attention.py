"""Outlook attention: each position writes the attention weights of its neighbourhood with itself, without keys."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "outlook_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Yuan et al. 2021 (VOLO), arXiv:2106.13112, section 3.1; timm volo.py OutlookAttention",
    settings={
        "heads": HEADS,
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
        "stride": Setting(
            (2, 1),
            rule=lambda v, place: 1 <= int(v) <= int(place.chosen["kernel"]),
            because="a stride is at least 1 and not larger than the kernel, or pixels would be left out",
        ),
        "bias": flag(False),
    },
)
class OutlookAttention(nn.Module):
    """out(fold(softmax(A / sqrt(d)) unfold(v(x)))), A = scores(pool(x)) of kernel^2 x kernel^2 for each head and position.

    Every stride-th position along each axis takes the kernel x kernel neighbourhood of v around it, mixes it with its own
    weights, and adds the results where the neighbourhood came from. Outside the map v is 0 and takes part in the softmax.
    `pool` averages stride x stride pixels, fewer at an edge that the stride does not reach evenly. `bias` is that of v.
    M = ceil(H / stride) ceil(W / stride), k the kernel, h the heads. MACs: 2 N C^2 + M k^4 C (h + 1).
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"scores": (1, 2, 3, 4), "scores_bias": (1, 2, 3, 4)}

    def __init__(self, width: int, size: int, *, heads: int, kernel: int, stride: int, bias: bool = False) -> None:
        super().__init__()
        self.heads, self.kernel, self.stride = heads, kernel, stride
        self.v, self.out = nn.Linear(width, width, bias=bias), nn.Linear(width, width)
        self.scores = nn.Parameter(torch.empty(heads, *(kernel,) * 4, width))
        self.scores_bias = nn.Parameter(torch.zeros(heads, *(kernel,) * 4))
        nn.init.trunc_normal_(self.scores, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        heads, kernel = self.heads, self.kernel
        window = {"kernel_size": kernel, "padding": kernel // 2, "stride": self.stride}
        patches = F.unfold(self.v(x).permute(0, 3, 1, 2), **window)
        values = patches.view(batch, heads, channels // heads, kernel**2, -1).permute(0, 1, 4, 3, 2)
        mixed = (self._weights(x) @ values).permute(0, 1, 4, 3, 2).reshape(patches.shape)
        y: Tensor = self.out(F.fold(mixed, (height, width), **window).permute(0, 2, 3, 1))
        return y

    def _weights(self, x: Tensor) -> Tensor:
        """(B, heads, M, kernel^2, kernel^2), rows that sum to 1."""
        if self.stride > 1:
            image = x.permute(0, 3, 1, 2)
            x = F.avg_pool2d(image, self.stride, ceil_mode=True).permute(0, 2, 3, 1)
        scores = F.linear(x.flatten(1, 2), self.scores.flatten(0, 4), self.scores_bias.flatten())
        scores = scores.unflatten(-1, (self.heads, self.kernel**2, self.kernel**2)).transpose(1, 2)
        return (scores * (x.shape[-1] // self.heads) ** -0.5).softmax(-1)


def macs(width: int, size: int, *, heads: int, kernel: int, stride: int, bias: bool = False) -> int:
    """Multiply-adds on a size x size map."""
    return 2 * size**2 * width**2 + (-(-size // stride)) ** 2 * kernel**4 * width * (heads + 1)


def reference(module: OutlookAttention, x: Tensor) -> Tensor:
    """Position by position: the weights of each pair of neighbours, added up pixel by pixel."""
    _, height, width, _ = x.shape
    value = naive.linear(module.v, x)
    total = [[torch.zeros_like(x[:, 0, 0]) for _ in range(width)] for _ in range(height)]
    for row in range(0, height, module.stride):
        for column in range(0, width, module.stride):
            pool = x[:, row : row + module.stride, column : column + module.stride].mean((1, 2))
            for (i, j), part in _outlook(module, pool, value, row, column).items():
                total[i][j] = total[i][j] + part
    return naive.linear(module.out, torch.stack([torch.stack(line, dim=1) for line in total], dim=1))


def _outlook(module: OutlookAttention, pool: Tensor, value: Tensor, row: int, column: int) -> dict[tuple[int, int], Tensor]:
    """What one position adds to the pixels of its neighbourhood, each (B, C)."""
    heads, kernel, channels = module.scores.shape[0], module.scores.shape[1], value.shape[-1]
    around = [(row + u - kernel // 2, column + v - kernel // 2) for u in range(kernel) for v in range(kernel)]
    inside = [0 <= i < value.shape[1] and 0 <= j < value.shape[2] for i, j in around]
    added = {}
    for n, (target, within) in enumerate(zip(around, inside, strict=True)):
        if within:
            scores, bias = module.scores.flatten(1, 2)[:, n].flatten(1, 2), module.scores_bias.flatten(1, 2)[:, n].flatten(1)
            logits = (torch.einsum("bc,hmc->bhm", pool, scores) + bias) / (channels // heads) ** 0.5
            weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
            parts = [
                weights[:, :, m].repeat_interleave(channels // heads, dim=1) * value[:, i, j]
                for m, (i, j) in enumerate(around)
                if inside[m]
            ]
            added[target] = torch.stack(parts).sum(0)
    return added
