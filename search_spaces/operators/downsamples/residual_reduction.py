"""Residual spatial reduction: a strided convolution added to the pooled map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import convolved
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, one_of, register


@register(
    "residual_reduction",
    Kind.DOWNSAMPLE,
    cite="Liao et al. 2021 (ViT-ResNAS), arXiv:2109.00642, section 3.1; official vit_sr_supernet.py "
    "SpatialReductionPatchEmbedding",
    settings={"norm": one_of("layer", "none", default="layer")},
)
class ResidualReduction(nn.Module):
    """conv(norm(x)) + pool(x), conv 3x3 of stride 2 with bias, pool the mean of each 2x2 patch.

    The pooled map is filled up with zero channels, or cut to the new width where that is smaller, which the official code
    refuses. The layer norm (eps 1e-6) is inside because only the convolution reads it. The official module also widens class
    tokens and adds a position table: here those are operators of their own. The pooling of an odd map averages what is there.
    """

    def __init__(self, in_width: int, width: int, *, norm: str = "layer") -> None:
        super().__init__()
        self.norm = parts.own_norm(norm, in_width, 1e-6)
        self.conv = nn.Conv2d(in_width, width, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        maps = convolved(self.conv, self.norm(x).permute(0, 3, 1, 2))
        down, right = x.shape[1] % 2, x.shape[2] % 2
        pooled = x.permute(0, 3, 1, 2)
        if down or right:
            pooled = F.pad(pooled, (0, right, 0, down), mode="replicate")
        pooled = F.avg_pool2d(pooled, 2)
        y: Tensor = maps + F.pad(pooled, (0, 0, 0, 0, 0, maps.shape[1] - pooled.shape[1]))
        return y.permute(0, 2, 3, 1)


def reference(module: ResidualReduction, x: Tensor) -> Tensor:
    """Tap by tap, then patch by patch."""
    out = naive.conv2d(module.conv, parts.naive_norm(module.norm, x)).clone()
    kept = min(x.shape[3], out.shape[3])
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j, :kept] += x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, :kept].mean((1, 2))
    return out
