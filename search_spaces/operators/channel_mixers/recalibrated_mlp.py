"""The convolutional perceptron of DHVT, whose output map recalibrates the class token or the map itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION, batch_normed
from nas.search_spaces.operators.convolution import normed
from nas.search_spaces.registry import Kind, Place, Setting, Value, register


def _square_behind_token(value: Value, place: Place) -> bool:
    return not value or (place.size > 1 and math.isqrt(place.size - 1) ** 2 == place.size - 1)


@register(
    "recalibrated_mlp",
    Kind.CHANNEL_MIXER,
    cite="Lu et al. 2022 (DHVT), arXiv:2210.05958, section 3.3; official vision_transformer.py DAFF",
    settings={
        "expansion": EXPANSION,
        "class_token": Setting(
            (False, True),
            rule=_square_behind_token,
            because="behind a class token there is a square number of positions",
            default=False,
        ),
    },
)
class RecalibratedMLP(nn.Module):
    """y = BN(W2 (h + gelu(BN(DW h)))) with h = gelu(BN(W1 x)); a gate E2 gelu(E1 mean(y)) then scales the class token.

    DW is a depth-wise 3x3 convolution with bias, E1 has C / 4 outputs and the gate no sigmoid. With `class_token` the first
    position of the flattened map is the token: it does not pass through the perceptron but is multiplied by the gate, and the
    others are a square map, or a row where their number is no square. Without it, which the official code does not have, the
    gate multiplies y. With hidden width E = expansion * C: parameters 2 C E + 16 E + 3 C + C^2 / 2 + C / 4 + C, MACs
    H W (2 C E + 9 E) + C^2 / 2.
    """

    def __init__(self, width: int, size: int, *, expansion: int, class_token: bool = False) -> None:
        super().__init__()
        hidden, squeezed = expansion * width, max(width // 4, 1)
        self.class_token = class_token
        self.expand, self.expand_norm = nn.Linear(width, hidden), nn.BatchNorm2d(hidden)
        self.conv, self.conv_norm = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden)
        self.reduce, self.reduce_norm = nn.Linear(hidden, width), nn.BatchNorm2d(width)
        self.compress, self.excite = nn.Linear(width, squeezed), nn.Linear(squeezed, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if not self.class_token:
            mixed = self._mix(x)
            return mixed * self._gate(mixed.mean((1, 2)))[:, None, None]
        batch, height, width, channels = x.shape
        token, others = x.reshape(batch, -1, channels).split((1, height * width - 1), dim=1)
        if height * width == 1:
            return x * self._gate(torch.zeros_like(x[:, 0, 0]))[:, None, None]
        mixed = self._mix(others.contiguous().view(batch, *grid(height * width - 1), channels)).flatten(1, 2)
        return torch.cat((token * self._gate(mixed.mean(1))[:, None], mixed), dim=1).view(x.shape)

    def _mix(self, x: Tensor) -> Tensor:
        hidden = self.act(self.expand_norm(self.expand(x).permute(0, 3, 1, 2)))
        hidden = self.act(normed(self.conv, self.conv_norm, hidden)).add_(hidden)
        return batch_normed(self.reduce_norm, self.reduce(hidden.permute(0, 2, 3, 1)))

    def _gate(self, mean: Tensor) -> Tensor:
        gate: Tensor = self.excite(self.act(self.compress(mean)))
        return gate


def grid(count: int) -> tuple[int, int]:
    """Height and width of the map that `count` positions are: a square, or a row."""
    side = math.isqrt(count)
    return (side, side) if side * side == count else (1, count)


def reference(module: RecalibratedMLP, x: Tensor) -> Tensor:
    """Layer by layer, the token apart; the mean of no positions is 0."""
    maps = x
    if module.class_token:
        count = x.shape[1] * x.shape[2] - 1
        side = round(count**0.5)
        shape = (side, side) if side**2 == count else (1, count)
        maps = x.flatten(1, 2)[:, 1:].reshape(x.shape[0], *shape, x.shape[3])
    if maps.shape[1] > 0 and maps.shape[2] > 0:
        hidden = naive.gelu(naive.batch_norm(module.expand_norm, naive.linear(module.expand, maps)))
        hidden = hidden + naive.gelu(naive.batch_norm(module.conv_norm, naive.conv2d(module.conv, hidden)))
        maps = naive.batch_norm(module.reduce_norm, naive.linear(module.reduce, hidden))
    mean = maps.sum((1, 2)) / max(maps.shape[1] * maps.shape[2], 1)
    gate = naive.linear(module.excite, naive.gelu(naive.linear(module.compress, mean)))[:, None, None]
    if not module.class_token:
        return maps * gate
    tokens = [(x[:, :1, :1] * gate).flatten(1, 2), maps.flatten(1, 2)]
    return torch.cat(tokens, dim=1).view(x.shape)


def macs(width: int, size: int, *, expansion: int, class_token: bool = False) -> int:
    """Multiply-adds on a size x size map, the class token one of its positions."""
    return (size**2 - class_token) * expansion * width * (2 * width + 9) + 2 * width * max(width // 4, 1)
