"""SynFlow: the strength of all paths through a network, without data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, autograd, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.gradients import weights
from nas.predictors.proxies.interception import NORMS, RECTIFIERS, Intercept
from nas.search_spaces.layers import Branch, Downsample, Residual


@register_proxy(
    "synflow",
    cite="Tanaka et al. 2020, arXiv:2006.05467, algorithm 1; summed by Abdelfattah et al. 2021, arXiv:2101.08134, official "
    "foresight/pruners/measures/synflow.py (bn=False)",
)
def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """log sum |w dR/dw| over the weights, R the sum of the outputs for one image of ones, in float64 and evaluation mode.

    The network is made linear first: each parameter is replaced by its absolute value, each rectifier and each norm (as in
    the official code) by the identity. For layers without bias, R is then the sum over all paths from a pixel to a logit of
    the product of the weights' absolute values, and the score log (R * number of layers). Gates such as sigmoid, softmax,
    and constants in buffers stay as they are.

    Products of maps, as in gates and attention, are of a higher degree in the signal, which norms do not keep small here: a
    few of them in a row pass any number. So every operator of a block gets its input divided by the input's mean size, and
    its output is multiplied by the same constant, which changes nothing for a linear one and makes the others of degree
    one. The logarithm, which the official code does not take, keeps the score in a range that regressions can use.
    """
    network.eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    for module in network.modules():
        if isinstance(module, (Residual, Branch, Downsample)):
            _homogenise(module.op)
    with Intercept(dict.fromkeys((*RECTIFIERS, *NORMS), _identity)):
        strength = network(torch.ones_like(images[:1], dtype=torch.float64)).sum()
    found = weights(network)
    gradients = autograd.grad(strength, found, allow_unused=True, materialize_grads=True)
    total = sum(float((weight.detach() * gradient).abs().sum()) for weight, gradient in zip(found, gradients, strict=True))
    return math.log(total) if total > 0 else -math.inf


def _identity(call: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x


def _homogenise(op: nn.Module) -> None:
    """Make f(x) into s f(x / s), s the mean of |x|, a constant to gradients."""
    sizes: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        size = args[0].detach().abs().mean()
        sizes.append(torch.where(size > 0, size, 1.0))
        return tuple(arg / sizes[-1] for arg in args)

    def after(module: nn.Module, args: tuple[Tensor, ...], out: Any) -> Any:
        size = sizes.pop()
        return (out[0] * size, *out[1:]) if isinstance(out, tuple) else out * size

    op.register_forward_pre_hook(before)
    op.register_forward_hook(after)
