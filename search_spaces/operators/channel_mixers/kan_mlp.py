"""The Kolmogorov-Arnold layer as channel mixer: learned functions of each channel, as sums of bell curves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION
from nas.search_spaces.registry import Kind, Setting, register

REACH = 2.0
SPREAD = 0.33


@register(
    "kan_mlp",
    Kind.CHANNEL_MIXER,
    cite="Manzari et al. 2025 (MedViTV2), arXiv:2502.13693; Delis 2024, FasterKAN; official fasterkan.py FasterKANLayer",
    settings={
        "expansion": EXPANSION,
        "grid": Setting((4, 8), rule=lambda v, place: 2 <= int(v) <= 32, because="a function is the sum of 2 to 32 curves"),
    },
)
class KolmogorovMLP(nn.Module):
    """layer(layer(x)) with layer(x)_o = sum over c, g of weight_ocg * (1 - tanh((norm(x)_c - grid_g) / 0.33)^2).

    From C to E = expansion * C channels and back; the grid has its points at equal distances from -2 to 2, and each layer a
    layer norm (eps 1e-5) but no bias. The file that MedViTV2 brings along is followed; its MedViT.py imports it, but at this
    commit has the layer commented out. Parameters 2 C E grid + 2 C + 2 E, MACs 2 H W C E grid: each value becomes `grid`
    values, which also is the memory that training takes.
    """

    grid: Tensor

    def __init__(self, width: int, size: int, *, expansion: int, grid: int) -> None:
        super().__init__()
        hidden = expansion * width
        self.expand_norm, self.reduce_norm = nn.LayerNorm(width), nn.LayerNorm(hidden)
        self.expand = nn.Parameter(_initial(hidden, width, grid))
        self.reduce = nn.Parameter(_initial(width, hidden, grid))
        self.register_buffer("grid", torch.linspace(-REACH, REACH, grid), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self._layer(self.reduce, self.reduce_norm(self._layer(self.expand, self.expand_norm(x))))

    def _layer(self, weight: Tensor, x: Tensor) -> Tensor:
        curves = 1 - torch.tanh((x / SPREAD)[..., None] - self.grid / SPREAD).square()
        return F.linear(curves.flatten(-2), weight.flatten(1))


def _initial(out_width: int, in_width: int, grid: int) -> Tensor:
    """Xavier's uniform distribution, as for a linear layer of all curves."""
    return nn.init.xavier_uniform_(torch.empty(out_width, in_width * grid)).view(out_width, in_width, grid)


def reference(module: KolmogorovMLP, x: Tensor) -> Tensor:
    """Curve by curve."""
    for norm, weight in ((module.expand_norm, module.expand), (module.reduce_norm, module.reduce)):
        x = naive.layer_norm(norm, x)
        grid = [-REACH + 2 * REACH * point / (weight.shape[2] - 1) for point in range(weight.shape[2])]
        curves = [1 / torch.cosh((x - point) / SPREAD) ** 2 for point in grid]
        x = torch.stack(
            [sum(((c * row[:, g]).sum(-1) for g, c in enumerate(curves)), x.new_zeros(())) for row in weight], dim=-1
        )
    return x


def macs(width: int, size: int, *, expansion: int, grid: int) -> int:
    """Multiply-adds on a size x size map: 2 H W C E grid."""
    return 2 * size**2 * expansion * width**2 * grid
