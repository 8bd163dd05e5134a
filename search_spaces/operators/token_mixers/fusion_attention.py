"""Window attention whose result asks a coarse copy of the whole map, and is fused with the answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.attention_base import HIDDEN, mix_fast
from nas.search_spaces.operators.attention_reduced import cell_means
from nas.search_spaces.operators.content import cells, inside, tiled, untiled
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "fusion_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wang et al. 2022 (MAFormer), arXiv:2209.01620, section 3.2, MAF and GLD",
    settings={
        "heads": HEADS,
        "window": Setting(
            (4, 7),
            rule=lambda v, place: 2 <= int(v) <= place.size,
            because="a window has several positions and is no larger than the map",
        ),
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2, and smaller than the map, which leaves several keys",
        ),
    },
)
class FusionAttention(nn.Module):
    """y = out(l + softmax(global_q(l) global_k(z)^T / sqrt(d)) global_v(z)), l window attention of x, z means of cells of x.

    No official code found: the paper compresses all tokens by a fully-connected layer tied to one map size, for which means
    over reduction x reduction cells stand here, and says that the streams are fused by attention of the local to the global
    one. Beyond the map, windows see nothing, and cells average fewer pixels. With N = H W, M = N / reduction^2: MACs
    5 N C^2 + 2 M C^2 + 2 N window^2 C + 2 N M C.
    """

    def __init__(self, width: int, size: int, *, heads: int, window: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.window, self.reduction = heads, window, reduction
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.global_q, self.global_k, self.global_v = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        local = self._local(x)
        z = cell_means(x, self.reduction).flatten(1, 2)
        q, k, v = (
            split_heads(f(part), self.heads)
            for f, part in ((self.global_q, local.flatten(1, 2)), (self.global_k, z), (self.global_v, z))
        )
        answer = join_heads(F.scaled_dot_product_attention(q, k, v)).view(x.shape)
        out: Tensor = self.out(local + answer)
        return out

    def _local(self, x: Tensor) -> Tensor:
        sides = x.shape[1], x.shape[2], self.window, self.window
        q, k, v = (tiled(f(x), self.window, self.window) for f in (self.q, self.k, self.v))
        real = inside(*sides, x)
        bias = None if real is None else (~real).to(x.dtype)[:, None, None, :] * HIDDEN
        return untiled(mix_fast(q, k, v, bias, self.heads, None), *sides)


def reference(module: FusionAttention, x: Tensor) -> Tensor:
    """Query by query, first over its window, then over the cells."""
    heads = (module.heads, x.shape[3] // module.heads)
    q, k, v = (naive.linear(f, x).unflatten(-1, heads) for f in (module.q, module.k, module.v))
    local = torch.zeros_like(x)
    for tile in cells(x.shape[1], x.shape[2], module.window, module.window):
        for place in tile:
            keys, values = ([part[:, i, j] for i, j in tile] for part in (k, v))
            local[:, *place] = naive.attend(q[:, *place], keys, values).flatten(1)
    squares = cells(x.shape[1], x.shape[2], module.reduction, module.reduction)
    z = [torch.stack([x[:, i, j] for i, j in square]).mean(0) for square in squares]
    keys, values = ([naive.linear(f, mean).unflatten(-1, heads) for mean in z] for f in (module.global_k, module.global_v))
    asked = naive.linear(module.global_q, local).unflatten(-1, heads)
    answer = [[naive.attend(asked[:, i, j], keys, values).flatten(1) for j in range(x.shape[2])] for i in range(x.shape[1])]
    return naive.linear(module.out, local + torch.stack([torch.stack(row, dim=1) for row in answer], dim=1))


def macs(width: int, size: int, *, heads: int, window: int, reduction: int) -> int:
    """5 N C^2 + 2 M C^2 + 2 N window^2 C + 2 N M C, with windows and cells that complete the map."""
    pixels, coarse, tiles = size**2, (-(-size // reduction)) ** 2, (-(-size // window)) ** 2
    return (5 * pixels + 2 * coarse) * width**2 + 2 * tiles * window**4 * width + 2 * pixels * coarse * width
