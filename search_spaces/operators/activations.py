"""Activation functions by name, and a plain version of each for the operators' references."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StarReLU(nn.Module):
    """scale * relu(x)^2 + bias, with one learned scale and one learned bias for the whole map.

    Yu et al. 2022 (MetaFormer baselines), arXiv:2210.13452, section 2; both start as in the official code (1 and 0), not at
    the constants 0.8944 and -0.4472 that the paper derives for normally distributed inputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return self.scale * torch.relu(x).square() + self.bias


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2; official CvT cls_cvt.py QuickGELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class TanhGELU(nn.GELU):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the approximation of Hendrycks and Gimpel 2016, arXiv:1606.08415."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": TanhGELU,
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "star_relu": StarReLU,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "none": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """A new activation module; `gelu` is the exact one. Raises KeyError for a name that is none of `ACTIVATIONS`."""
    return ACTIVATIONS[name]()


def naive_activation(act: nn.Module, x: Tensor) -> Tensor:
    """What an activation module of this file computes, written out."""
    if isinstance(act, TanhGELU):
        return x * 0.5 * (1 + ((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())
    if isinstance(act, nn.GELU):
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))
    if isinstance(act, QuickGELU):
        return x / (1 + (-1.702 * x).exp())
    if isinstance(act, StarReLU):
        return act.scale * torch.where(x > 0, x, 0.0) ** 2 + act.bias
    if isinstance(act, nn.ReLU):
        return torch.where(x > 0, x, 0.0)
    if isinstance(act, (nn.SiLU, nn.Sigmoid)):
        share = 1 / (1 + (-x).exp())
        return share if isinstance(act, nn.Sigmoid) else x * share
    if isinstance(act, (nn.Hardswish, nn.Hardsigmoid)):
        share = torch.where(x > -3, torch.where(x < 3, (x + 3) / 6, 1.0), 0.0)
        return share if isinstance(act, nn.Hardsigmoid) else x * share
    assert isinstance(act, nn.Identity), f"{act} is no activation of this file"
    return x
