"""Squeeze and excitation: channels scaled by a gate that reads the mean of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation


def divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value` (at least one), halves up: timm's `make_divisible` with round_limit 0."""
    return max(divisor, int(value + divisor / 2) // divisor * divisor)


class SqueezeExcite(nn.Module):
    """x * gate(expand(act(reduce(mean of x)))), with `hidden` channels between the two linear layers.

    Hu et al. 2018, arXiv:1709.01507, eq. 2-4. Official codes differ in how they round `hidden` and in `act` and `gate`, which
    are names that `activation` knows. Parameters and MACs: 2 C hidden (and C + hidden biases).
    """

    def __init__(self, width: int, hidden: int, *, act: str = "relu", gate: str = "sigmoid", bias: bool = True) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, hidden, bias=bias)
        self.expand = nn.Linear(hidden, width, bias=bias)
        self.act, self.gate = activation(act), activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(x.mean((1, 2))))))
        return x * gate[:, None, None]


def squeeze_reference(module: SqueezeExcite, x: Tensor) -> Tensor:
    """Image by image."""
    scaled = []
    for image in x:
        mean = image.flatten(0, 1).sum(0) / (image.shape[0] * image.shape[1])
        hidden = naive_activation(module.act, naive.linear(module.reduce, mean))
        scaled.append(image * naive_activation(module.gate, naive.linear(module.expand, hidden)))
    return torch.stack(scaled)


def squeeze_macs(width: int, hidden: int) -> int:
    """Multiply-adds for one image."""
    return 2 * width * hidden
