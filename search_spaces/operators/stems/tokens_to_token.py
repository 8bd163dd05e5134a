"""Tokens-to-token: overlapping patches are cut again and again from maps that attention has mixed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, one_of, register

CUTS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
"""Kernel, stride and padding of the soft splits."""


@register(
    "tokens_to_token",
    Kind.STEM,
    cite="Yuan et al. 2021 (T2T-ViT), arXiv:2101.11986, section 3.1; official t2t_vit.py T2T_module, token_performer.py, "
    "token_transformer.py",
    settings={
        "stride": Setting((4, 8, 16), rule=lambda v, place: v in (4, 8, 16), because="the cuts divide the map by 4, 8 or 16"),
        "mixing": one_of("performer", "transformer", default="performer"),
        "inner": Setting((64, 32), rule=lambda v, place: 8 <= int(v) <= 256, because="inner is 8 to 256 channels", default=64),
    },
)
class TokensToToken(nn.Module):
    """7x7 patches of stride 4, then 3x3 patches of stride 2, mixed to `inner` channels between two cuts; last a linear map.

    A mixing block is v + P(attention(q, k, v)), plus a perceptron of the norm of it, from the norm of the patches: with random
    features (Performer) or with softmax. The code is followed: the skip carries v, as the widths differ; softmax scores are
    scaled by the width of the patches, 147 or 9 inner, to the power -1/2, not by that of q. Dropout of the official Performer
    is left out. Its random features are fixed there and learned here. Official: stride 16; fewer cuts at stride 8 and 4.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int, mixing: str = "performer", inner: int = 64) -> None:
        super().__init__()
        steps = {4: 0, 8: 1, 16: 2}[stride]
        patches = [49 * in_channels, 9 * inner, 9 * inner]
        if mixing == "performer":
            self.mix = nn.ModuleList(PerformerStep(patch, inner) for patch in patches[:steps])
        else:
            self.mix = nn.ModuleList(TransformerStep(patch, inner) for patch in patches[:steps])
        self.project = nn.Linear(patches[steps], width)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        maps, cuts = image, CUTS[: len(self.mix) + 1]
        for number, (kernel, stride, padding) in enumerate(cuts):
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in maps.shape[2:])
            tokens = F.unfold(maps, kernel, padding=padding, stride=stride).transpose(1, 2)
            if number < len(self.mix):
                maps = self.mix[number](tokens).transpose(1, 2).unflatten(2, (height, width))
        out: Tensor = self.project(tokens).unflatten(1, (height, width))
        return out


class TransformerStep(nn.Module):
    """One head of softmax attention from `width` to `inner` channels, then a perceptron."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(inner)
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out, self.expand, self.reduce = (nn.Linear(inner, inner) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, inner)."""
        x = self.norm1(tokens)
        q, k, v = (layer(x)[:, None] for layer in (self.q, self.k, self.v))
        mixed = v + self.out(F.scaled_dot_product_attention(q, k, v, scale=self.scale))
        y: Tensor = mixed[:, 0]
        return y + self.reduce(F.gelu(self.expand(self.norm2(y))))


class PerformerStep(nn.Module):
    """One head of attention with positive random features from `width` to `inner` channels, then a perceptron."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(inner)
        self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        self.out, self.expand, self.reduce = (nn.Linear(inner, inner) for _ in range(3))
        features = inner // 2
        self.features = nn.Parameter(nn.init.orthogonal_(torch.empty(features, inner)) * math.sqrt(features))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, inner)."""
        x = self.norm1(tokens)
        v = self.v(x)
        # Times 1e8 above and below: the ONNX exporter drops the official `+ 1e-8` as if it were 0.
        q, k = self._features(self.q(x)) * 1e8, self._features(self.k(x))
        total = q @ k.sum(1)[..., None]
        y: Tensor = v + self.out(q @ (k.transpose(1, 2) @ v) / (total + 1))
        return y + self.reduce(F.gelu(self.expand(self.norm2(y))))

    def _features(self, x: Tensor) -> Tensor:
        """exp(w x - |x|^2 / 2) / sqrt(m): (B, N, inner) -> (B, N, m)."""
        half = x.square().sum(-1, keepdim=True) / 2
        return torch.exp(x @ self.features.mT - half) / math.sqrt(self.features.shape[0])


def reference(module: TokensToToken, image: Tensor) -> Tensor:
    """Patch by patch and token by token."""
    x = image.permute(0, 2, 3, 1)
    for number, (kernel, stride, padding) in enumerate(CUTS[: len(module.mix) + 1]):
        x = _cut(x, kernel, stride, padding)
        if number < len(module.mix):
            step = module.mix[number]
            assert isinstance(step, (PerformerStep, TransformerStep))
            x = _mixed(step, x.flatten(1, 2)).view(*x.shape[:3], -1)
    return naive.linear(module.project, x)


def _cut(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The values of each patch, channel by channel, zeros outside; (B, H, W, C) -> (B, H', W', C kernel^2)."""
    batch, height, width, channels = x.shape
    padded = x.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    padded[:, padding : padding + height, padding : padding + width] = x
    rows = []
    for i in range(0, padded.shape[1] - kernel + 1, stride):
        starts = range(0, padded.shape[2] - kernel + 1, stride)
        rows.append(
            torch.stack([padded[:, i : i + kernel, j : j + kernel].permute(0, 3, 1, 2).flatten(1) for j in starts], dim=1)
        )
    return torch.stack(rows, dim=1)


def _mixed(step: PerformerStep | TransformerStep, tokens: Tensor) -> Tensor:
    """Each token against each other one."""
    x = naive.layer_norm(step.norm1, tokens)
    q, k, v = (naive.linear(layer, x) for layer in (step.q, step.k, step.v))
    found = []
    for i in range(tokens.shape[1]):
        if isinstance(step, TransformerStep):
            weights = [((q[:, i] * k[:, j]).sum(-1) * step.scale).exp() for j in range(tokens.shape[1])]
            total = sum(weights, x.new_zeros(()))
        else:
            weights = [
                (_naive_features(step, q[:, i]) * _naive_features(step, k[:, j])).sum(-1) for j in range(tokens.shape[1])
            ]
            total = sum(weights, x.new_zeros(())) + 1e-8
        found.append(sum((w[:, None] * v[:, j] for j, w in enumerate(weights)), x.new_zeros(())) / total[:, None])
    y = v + naive.linear(step.out, torch.stack(found, dim=1))
    hidden = naive.gelu(naive.linear(step.expand, naive.layer_norm(step.norm2, y)))
    return y + naive.linear(step.reduce, hidden)


def _naive_features(step: PerformerStep, x: Tensor) -> Tensor:
    """(B, inner) -> (B, m), feature by feature."""
    values = [((x * w).sum(-1) - (x * x).sum(-1) / 2).exp() for w in step.features]
    return torch.stack(values, dim=-1) / len(values) ** 0.5
