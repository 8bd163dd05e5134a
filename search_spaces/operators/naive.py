"""Slow, plain versions of the layers, which the operators' references are written with. They work in any precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv2d(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Zero-padded convolution, tap by tap; (B, H, W, C_in) -> (B, H', W', C_out). Kernels, strides, paddings are square."""
    kernel, stride, dilation, groups = conv.kernel_size[0], conv.stride[0], conv.dilation[0], conv.groups
    padding = int(conv.padding[0])
    batch, height, width, channels = x.shape
    padded = x.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    padded[:, padding : padding + height, padding : padding + width] = x
    reach = dilation * (kernel - 1) + 1
    rows, columns = ((n - reach) // stride + 1 for n in padded.shape[1:3])
    taps = padded.view(*padded.shape[:3], groups, channels // groups)
    weight = conv.weight.view(groups, conv.out_channels // groups, channels // groups, kernel, kernel)
    out = x.new_zeros(batch, rows, columns, groups, conv.out_channels // groups)
    for u in range(kernel):
        for v in range(kernel):
            top, left = u * dilation, v * dilation
            tap = taps[:, top : top + stride * (rows - 1) + 1 : stride, left : left + stride * (columns - 1) + 1 : stride]
            out = out + torch.einsum("bijgc,goc->bijgo", tap, weight[..., u, v])
    out = out.flatten(-2)
    return out if conv.bias is None else out + conv.bias


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """W x + b over the last dimension, output channel by output channel."""
    out = torch.stack([(x * row).sum(-1) for row in layer.weight], dim=-1)
    return out if layer.bias is None else out + layer.bias


def batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch statistics in training, running statistics in evaluation; the running statistics are not updated."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.training or mean is None or variance is None:
        mean = x.mean((0, 1, 2))
        variance = ((x - mean) ** 2).mean((0, 1, 2))
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function of x."""
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor], bias: list[Tensor] | None = None) -> Tensor:
    """One query against a list of keys, each (B, heads, d), with an optional bias (heads,) a key -> (B, heads, d)."""
    scores = torch.stack([(query * key).sum(-1) / query.shape[-1] ** 0.5 for key in keys])
    if bias is not None:
        scores = scores + torch.stack(bias)[:, None]
    weights = torch.exp(scores - scores.amax(0))
    weights = weights / weights.sum(0)
    return (weights[..., None] * torch.stack(values)).sum(0)
