"""Group norm with one group: over the channels and positions of each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators.norms.layer_norm import epsilon
from nas.search_spaces.registry import Kind, flag, register


@register(
    "group",
    Kind.NORM,
    cite="Wu and He 2018, arXiv:1803.08494, eq. 7; Yu et al. 2022 (PoolFormer), arXiv:2111.11418, "
    "official poolformer.py GroupNorm",
    settings={"eps": epsilon(1e-5, 1e-6), "bias": flag(True)},
)
class GroupNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and variance over the channels and positions of an image."""

    def __init__(self, width: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = F.group_norm(x.permute(0, 3, 1, 2), 1, self.weight, self.bias, self.eps)
        return y.permute(0, 2, 3, 1)


def reference(module: GroupNorm, x: Tensor) -> Tensor:
    """Image by image."""
    out = []
    for image in x:
        centred = image - image.mean()
        y = centred / ((centred**2).mean() + module.eps).sqrt() * module.weight
        out.append(y if module.bias is None else y + module.bias)
    return torch.stack(out)
