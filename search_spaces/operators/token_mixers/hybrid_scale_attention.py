"""Half of the heads attend to a coarser map, half inside windows; what they look at is passed on as significance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.attention_base import HIDDEN
from nas.search_spaces.operators.content import cells, inside, tiled, untiled
from nas.search_spaces.registry import Group, Kind, Setting, register

EVEN_HEADS = Setting(
    (2, 4, 8),
    rule=lambda v, place: int(v) >= 2 and int(v) % 2 == 0 and place.width % int(v) == 0 and place.width // int(v) >= 4,
    because="an even number of heads divides the channels, and they have at least 4 each",
)


@register(
    "hybrid_scale_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Ren et al. 2023 (SG-Former), arXiv:2308.12216, section 3.2; official sgformer.py Attention with mask None",
    settings={
        "heads": EVEN_HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: 2 <= int(v) < place.size,
            because="a reduction is at least 2, and smaller than the map, which leaves several keys",
        ),
        "window": Setting(
            (4, 7),
            rule=lambda v, place: 2 <= int(v) <= place.size,
            because="a window has several positions and is no larger than the map",
        ),
    },
    emits="significance",
)
class HybridScaleAttention(nn.Module):
    """out([coarse heads, local heads] + lepe(lepe_linear(x))), and how much each position is attended to.

    Coarse heads see z = gelu(norm(reduce(x))), a convolution of kernel and stride `reduction`; local heads see their
    window x window tile. The significance of a position is the mean weight that it gets, over queries and heads, from its
    coarse cell plus that within its window; no gradient flows through it. Published models have window 7. On maps that
    are no multiple, zeros complete the coarse map, and what is beyond the map is hidden in windows, and asks nothing. With
    N = H W, M = N / reduction^2: MACs 4 N C^2 + 9 N C + M (reduction^2 C^2 + C^2) + N M C + N window^2 C.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int, window: int) -> None:
        super().__init__()
        self.heads, self.reduction, self.window = heads // 2, reduction, window
        half = width // 2
        self.reduce, self.norm = nn.Conv2d(width, width, reduction, reduction), nn.LayerNorm(width)
        self.coarse_q, self.coarse_k, self.coarse_v = (nn.Linear(width, half) for _ in range(3))
        self.local_q, self.local_k, self.local_v = (nn.Linear(width, half) for _ in range(3))
        self.lepe_linear, self.lepe = nn.Linear(width, width), nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> (B, H, W, C) and (B, H, W, 1)."""
        near = self.lepe(self.lepe_linear(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        coarse, wide = self._coarse(x)
        local, narrow = self._local(x)
        y: Tensor = self.out(torch.cat((coarse, local), dim=3) + near)
        return y, wide + narrow

    def _coarse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[1:3]
        down, right = -height % self.reduction, -width % self.reduction
        padded = F.pad(x, (0, 0, 0, right, 0, down)) if down or right else x
        z = self.reduce(padded.permute(0, 3, 1, 2))
        rows, columns = z.shape[2:]
        z = F.gelu(self.norm(z.flatten(2).transpose(1, 2)))
        q, k, v = self.coarse_q(x.flatten(1, 2)), self.coarse_k(z), self.coarse_v(z)
        mixed, weights = weighed(q, k, v, self.heads, None)
        seen = weights.mean((1, 2)).view(-1, rows, 1, columns, 1)
        seen = seen.expand(-1, -1, self.reduction, -1, self.reduction).flatten(3, 4).flatten(1, 2)
        return mixed.view(*x.shape[:3], -1), seen[:, :height, :width, None]

    def _local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sides = x.shape[1], x.shape[2], self.window, self.window
        q, k, v = (tiled(f(x), self.window, self.window) for f in (self.local_q, self.local_k, self.local_v))
        real = inside(*sides, x)
        hidden = None if real is None else (~real).to(x.dtype)[:, None, None, :] * HIDDEN
        mixed, weights = weighed(q, k, v, self.heads, hidden)
        if real is None:
            seen = weights.mean((2, 3))
        else:
            asking = real.to(x.dtype) / real.sum(1, keepdim=True)
            seen = (weights.mean(2) * asking[:, :, None]).sum(2)
        return untiled(mixed, *sides), untiled(seen[..., None], *sides)


def weighed(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention and its weights, which carry no gradient: (..., N, C), (..., heads, N, M)."""
    q, k, v = (split_heads(part, heads) for part in (q, k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    return join_heads(weights @ v), weights.detach()


def reference(module: HybridScaleAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Query by query, head by head; the weights are summed up key by key."""
    (batch, height, width, channels), r, heads = x.shape, module.reduction, module.heads
    padded = x.new_zeros(batch, -(-height // r) * r, -(-width // r) * r, channels)
    padded[:, :height, :width] = x
    z = naive.gelu(naive.layer_norm(module.norm, naive.conv2d(module.reduce, padded)))
    coarse = [(i, j) for i in range(z.shape[1]) for j in range(z.shape[2])]
    window = {place: tile for tile in cells(height, width, module.window, module.window) for place in tile}
    layers = (module.coarse_q, module.coarse_k, module.coarse_v, module.local_q, module.local_k, module.local_v)
    wide_q, wide_k, wide_v, q, k, v = (
        naive.linear(f, z if n in (1, 2) else x).unflatten(-1, (heads, -1)) for n, f in enumerate(layers)
    )
    mixed, wide, narrow = torch.zeros_like(x), z.new_zeros(z.shape[:3]), x.new_zeros(x.shape[:3])
    for place, tile in window.items():
        outputs = []
        for query, keys, values, seen, total, count in (
            (wide_q, wide_k, wide_v, coarse, wide, height * width), (q, k, v, tile, narrow, len(tile)),
        ):  # fmt: skip
            scores = torch.stack([(query[:, *place] * keys[:, *key]).sum(-1) for key in seen]) / query.shape[-1] ** 0.5
            weights = torch.exp(scores - scores.amax(0))
            weights = weights / weights.sum(0)
            outputs.append(sum(w[..., None] * values[:, *key] for w, key in zip(weights, seen, strict=True)).flatten(1))
            for weight, key in zip(weights.detach().mean(-1), seen, strict=True):
                total[:, *key] += weight / count
        mixed[:, *place] = torch.cat(outputs, dim=1)
    significance = torch.stack(
        [torch.stack([narrow[:, i, j] + wide[:, i // r, j // r] for j in range(width)], dim=1) for i in range(height)], dim=1
    )
    near = naive.conv2d(module.lepe, naive.linear(module.lepe_linear, x))
    return naive.linear(module.out, mixed + near), significance[..., None]


def macs(width: int, size: int, *, heads: int, reduction: int, window: int) -> int:
    """Projections, the reducing convolution, the pairs of both kinds of heads, and the local position."""
    pixels, coarse, tiles = size**2, (-(-size // reduction)) ** 2, (-(-size // window)) ** 2
    projections = pixels * width**2 * 4 + coarse * width**2 * (reduction**2 + 1)
    return projections + 9 * pixels * width + pixels * coarse * width + tiles * window**4 * width
