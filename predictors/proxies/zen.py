"""Zen-score: how strongly a network without residuals reacts to noise, with the scale that its norms take away put back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.interception import NORMS, Intercept
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.layers import Concat, Joined, Residual
from nas.search_spaces.operators.norms.rep_batch import RepBatchNorm

STEP, REPEATS = 0.01, 2


@register_proxy(
    "zen",
    cite="Lin et al. 2021 (Zen-NAS), arXiv:2102.01063, algorithm 1; official ZeroShotProxy/compute_zen_score.py",
)
def zen(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The mean over REPEATS draws of log E|f(x + STEP e) - f(x)| + sum over the norms k of log s_k, in float64.

    x and e are Gaussian noise of the batch's shape, and so are all weights; biases are 0. f is the map before the head, or
    the output of a network that is no `Backbone`. |.| is the sum over the map (the official code; the paper takes the
    Euclidean norm), E the mean over the batch. Blocks lose their residuals: a block gives what its branch gives, without
    layer scale; what an operator adds to itself inside stays.

    s_k is the deviation that norm k divides by. For batch norm it is the root of the mean over the channels of the variance
    over x (the paper; the official code reads running variances, which tend to it). The paper knows no other norm: for layer
    and group norm s_k is the root of the mean over positions or groups of the variance, for RMS norm that of the mean
    square, so that here too the sum restores what the norms divide out. Norms without statistics have no s_k.
    """
    network.double()
    _without_residuals(network)
    return sum(_draw(network, images.shape, images.device) for _ in range(REPEATS)) / REPEATS


@torch.no_grad()
def _draw(network: nn.Module, shape: torch.Size, device: torch.device) -> float:
    _gaussian(network)
    noise, step = (torch.randn(shape, dtype=torch.float64).to(device) for _ in range(2))
    found: list[float] = []
    with Intercept({name: _recorder(name, found) for name in NORMS}):
        before = network(noise)
    change = float((network(noise + STEP * step) - before).flatten(1).abs().sum(1).mean())
    return sum(math.log(value) if value > 0 else -math.inf for value in (change, *found))


def _gaussian(network: nn.Module) -> None:
    """Weights from N(0, 1), drawn on the CPU so that devices agree, and biases 0."""
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2:
            parameter.copy_(torch.randn(parameter.shape, dtype=parameter.dtype))
        elif name.endswith("bias"):
            parameter.zero_()


def _recorder(name: str, found: list[float]) -> Callable[..., Any]:
    """A handler that notes by how much the norm divides."""

    def record(call: Callable[[], Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if name == "batch_norm":
            found.append(_deviation(x.transpose(0, 1).flatten(1), -1))
        elif name == "rms_norm":
            found.append(float(x.square().mean().sqrt()))
        elif name == "layer_norm":
            found.append(_deviation(x.flatten(-len(args[0])), -1))
        else:
            groups = args[0] if name == "group_norm" else x.shape[1]
            found.append(_deviation(x.reshape(x.shape[0], groups, -1), -1))
        return call()

    return record


def _deviation(x: Tensor, dim: int) -> float:
    """The root of the mean variance along a dimension."""
    return float(x.var(dim, correction=0).mean().sqrt())


def _without_residuals(network: nn.Module) -> None:
    """Replace the head by the identity and every block by its branch."""
    if isinstance(network, Backbone):
        network.nodes[network.plan[-1][0]] = nn.Identity()
    for module in list(network.modules()):
        if isinstance(module, (Concat, Joined)):
            module.register_forward_hook(lambda module, args, out: torch.cat(args[1:], dim=-1))
        elif isinstance(module, Residual):
            _branch_alone(module)
        elif isinstance(module, RepBatchNorm):
            module.alpha.data.zero_()


def _branch_alone(residual: Residual) -> None:
    """Let a block return what the last of its norms and its operator gave, beside what the operator emits."""
    last: list[Any] = []
    for child in (residual.norm, residual.op, getattr(residual, "after", None)):
        if child is not None:
            child.register_forward_hook(lambda module, args, out: last.append(out))

    def branch(module: nn.Module, args: tuple[Tensor, ...], out: Any) -> Any:
        y = last[-1]
        last.clear()
        y = y[0] if isinstance(y, tuple) else y
        return (y, *out[1:]) if isinstance(out, tuple) else y

    residual.register_forward_hook(branch)
