"""Batch norm over batch and positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.norms.layer_norm import epsilon
from nas.search_spaces.registry import Kind, register


@register(
    "batch",
    Kind.NORM,
    cite="Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1",
    settings={"eps": epsilon(1e-5, 1e-6)},
)
class BatchNorm(nn.BatchNorm2d):
    """(x - mean) / sqrt(var + eps) * weight + bias per channel, over batch and positions; channels last."""

    def __init__(self, width: int, *, eps: float = 1e-5) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def reference(module: BatchNorm, x: Tensor) -> Tensor:
    """Channel by channel: batch statistics in training, running statistics in evaluation."""
    channels = []
    for c in range(x.shape[3]):
        v = x[..., c]
        if module.training or module.running_mean is None or module.running_var is None:
            mean, variance = v.mean(), ((v - v.mean()) ** 2).mean()
        else:
            mean, variance = module.running_mean[c], module.running_var[c]
        channels.append((v - mean) / (variance + module.eps).sqrt() * module.weight[c] + module.bias[c])
    return torch.stack(channels, dim=-1)
