"""Token-mixing MLP: two linear maps over the positions, the same for every channel."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Group, Kind, Setting, register

TOKENS = Setting(
    (64, 128, 256, 384),
    rule=lambda v, place: 1 <= int(v) <= 65536,
    because="there are 1 to 65536 hidden tokens",
)


@register(
    "mixer_mlp",
    Kind.TOKEN_MIXER,
    group=Group.GATING,
    cite="Tolstikhin et al. 2021 (MLP-Mixer), arXiv:2105.01601, eq. 1; timm mlp_mixer.py MixerBlock.mlp_tokens",
    settings={"tokens": TOKENS},
)
class MixerMLP(nn.Module):
    """W_2 gelu(W_1 x + b_1) + b_2 over the positions of each channel: W_1 maps size^2 tokens to `tokens` hidden ones, W_2 back.

    The weights hold one number for each pixel of a size x size map, the only one that the official code takes. Another map is
    resampled to that size and the result back to its own (bilinear, pixel centres aligned), which is what interpolating the
    weights does. They are stored by row and column, so that a smaller map's weights are the centre of a larger one's.
    Parameters: 2 tokens size^2 + tokens + size^2. MACs: 2 N tokens C.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"gather": (1, 2), "scatter": (0, 1), "scatter_bias": (0, 1)}

    def __init__(self, width: int, size: int, *, tokens: int) -> None:
        super().__init__()
        self.size = size
        self.gather = nn.Parameter(torch.empty(tokens, size, size))
        self.gather_bias = nn.Parameter(torch.zeros(tokens))
        self.scatter = nn.Parameter(torch.empty(size, size, tokens))
        self.scatter_bias = nn.Parameter(torch.zeros(size, size))
        nn.init.uniform_(self.gather, -1 / size, 1 / size)
        nn.init.uniform_(self.scatter, -1 / math.sqrt(tokens), 1 / math.sqrt(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = resample(x, self.size, self.size)
        tokens = y.flatten(1, 2)
        over = transposed if self.training else over_tokens
        hidden = F.gelu(over(self.gather.flatten(1), self.gather_bias, tokens))
        tokens = over(self.scatter.flatten(0, 1), self.scatter_bias.flatten(), hidden)
        return resample(tokens.unflatten(1, y.shape[1:3]), x.shape[1], x.shape[2])


def transposed(weight: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """`over_tokens` with a copy of the tokens, but without a gradient of the weight for each image."""
    return F.linear(tokens.transpose(1, 2), weight, bias).transpose(1, 2)


def over_tokens(weight: Tensor, bias: Tensor, tokens: Tensor) -> Tensor:
    """One linear map for all channels, without transposing them: (T, N), (T,) and (B, N, C) -> (B, T, C)."""
    return torch.baddbmm(bias[:, None], weight.expand(tokens.shape[0], -1, -1), tokens)


def resample(x: Tensor, height: int, width: int) -> Tensor:
    """The map at another size, bilinearly: (B, H, W, C) -> (B, height, width, C); itself where that is its size."""
    if x.shape[1:3] == (height, width):
        return x
    return F.interpolate(x.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def macs(width: int, size: int, *, tokens: int) -> int:
    """Multiply-adds on a size x size map."""
    return 2 * size**2 * tokens * width


def reference(module: MixerMLP, x: Tensor) -> Tensor:
    """Hidden token by hidden token, then pixel by pixel."""
    y = resample_naively(x, module.size, module.size)
    hidden = [
        naive.gelu((y * weight[..., None]).sum((1, 2)) + bias)
        for weight, bias in zip(module.gather, module.gather_bias, strict=True)
    ]
    tokens = torch.stack(hidden, dim=1)
    rows = [
        torch.stack(
            [(tokens * module.scatter[i, j, :, None]).sum(1) + module.scatter_bias[i, j] for j in range(module.size)],
            dim=1,
        )
        for i in range(module.size)
    ]
    return resample_naively(torch.stack(rows, dim=1), x.shape[1], x.shape[2])


def resample_naively(x: Tensor, height: int, width: int) -> Tensor:
    """Pixel by pixel, each from its four neighbours."""
    rows, columns = (
        [_neighbours(index, old, new) for index in range(new)] for old, new in zip(x.shape[1:3], (height, width), strict=True)
    )
    lines = []
    for top, bottom, down in rows:
        upper, lower = (
            torch.stack([x[:, row, left] * (1 - across) + x[:, row, right] * across for left, right, across in columns], dim=1)
            for row in (top, bottom)
        )
        lines.append(upper * (1 - down) + lower * down)
    return torch.stack(lines, dim=1)


def _neighbours(index: int, old: int, new: int) -> tuple[int, int, float]:
    """The two positions of an axis of `old` between which position `index` of `new` lies, and the share of the second."""
    where = max((index + 0.5) * old / new - 0.5, 0.0)
    low = min(int(where), old - 1)
    return low, min(low + 1, old - 1), where - low
