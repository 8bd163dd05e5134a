"""Attention whose exponential is estimated with positive random features, at a cost linear in the number of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

FEATURES = Setting((16, 32, 64), rule=lambda v, place: 1 <= int(v) <= 1024, because="a head has 1 to 1024 features")


@register(
    "performer_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite=(
        "Choromanski et al. 2021 (Performer), arXiv:2009.14794, section 2.3; Yuan et al. 2021 (T2T-ViT), arXiv:2101.11986; "
        "official T2T-ViT models/token_performer.py Token_performer"
    ),
    settings={"heads": HEADS, "features": FEATURES, "scaled": flag(True), "value_skip": flag(False)},
)
class PerformerAttention(nn.Module):
    """phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n) + 1e-8), phi(x) = exp(w x - |x|^2 / 2) for the rows w of random_features.

    With `scaled`, q and k are first divided by d^(1/4), so that phi(q) phi(k) estimates exp(q k / sqrt(d)). With `value_skip`
    the result is v + out(...). T2T-ViT is heads=1, features = d / 2, scaled=False, value_skip=True; there and in the original
    the features are drawn once, orthogonal, and kept; here they are a parameter, which begins so, is saved and may be trained.

    Each query's largest exponent is taken off its own, and each map's largest off the keys': factors that cancel, but for
    the 1e-8. With M features: MACs 4 N C^2 + 4 N M C + N heads M.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, features: int, scaled: bool = True, value_skip: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.scaled, self.value_skip = heads, scaled, value_skip
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.random_features = nn.Parameter(orthogonal_rows(features, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        v = self.v(tokens)
        scale = (x.shape[3] // self.heads) ** -0.25 if self.scaled else 1.0
        q, k = (exponents(split_heads(f(tokens), self.heads) * scale, self.random_features) for f in (self.q, self.k))
        q = (q - q.detach().amax(-1, keepdim=True)).exp()
        k = (k - k.detach().amax((-2, -1), keepdim=True)).exp()
        state = k.transpose(-1, -2) @ split_heads(v, self.heads)
        total = q @ k.sum(-2, keepdim=True).transpose(-1, -2)
        y = self.out(join_heads(q @ state / (total + 1e-8)))
        if self.value_skip:
            y = v + y
        return y.view(x.shape)


def exponents(x: Tensor, features: Tensor) -> Tensor:
    """w x - |x|^2 / 2 for each feature w: (..., d), (M, d) -> (..., M)."""
    return x @ features.t() - (x * x).sum(-1, keepdim=True) / 2


def orthogonal_rows(count: int, depth: int) -> Tensor:
    """`count` vectors of length sqrt(depth), every `depth` of them orthogonal to each other."""
    blocks = [nn.init.orthogonal_(torch.empty(depth, depth)) for _ in range(-(-count // depth))]
    return torch.cat(blocks)[:count] * math.sqrt(depth)


def macs(width: int, size: int, *, heads: int, features: int, scaled: bool = True, value_skip: bool = False) -> int:
    """Multiply-adds of one map."""
    return size**2 * (4 * width**2 + 4 * features * width + heads * features)


def reference(module: PerformerAttention, x: Tensor) -> Tensor:
    """Query by query with explicit weights over all keys."""
    heads, depth = module.heads, x.shape[3] // module.heads
    tokens = x.flatten(1, 2).unbind(1)
    q, k, v = ([naive.linear(f, t).view(-1, heads, depth) for t in tokens] for f in (module.q, module.k, module.v))
    scale = depth**-0.25 if module.scaled else 1.0
    queries, keys = ([naive_exponents(part * scale, module.random_features) for part in parts] for parts in (q, k))
    largest = torch.stack(keys).amax((0, 3)).detach()[..., None]
    out = []
    for query, value in zip(queries, v, strict=True):
        phi = torch.exp(query - query.amax(-1, keepdim=True).detach())
        weights = torch.stack([(phi * torch.exp(key - largest)).sum(-1, keepdim=True) for key in keys])
        mixed = (weights * torch.stack(v)).sum(0) / (weights.sum(0) + 1e-8)
        y = naive.linear(module.out, mixed.flatten(1))
        out.append(value.flatten(1) + y if module.value_skip else y)
    return torch.stack(out, dim=1).view(x.shape)


def naive_exponents(x: Tensor, features: Tensor) -> Tensor:
    """Feature by feature."""
    return torch.stack([(x * w).sum(-1) - (x * x).sum(-1) / 2 for w in features], dim=-1)
