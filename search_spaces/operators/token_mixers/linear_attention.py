"""Attention without softmax, whose cost grows linearly with the number of positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, Setting, register


@register(
    "linear_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite=(
        "Guo et al. 2024 (SLAB), arXiv:2405.11582, section 3.3, official slab_swin.py SimplifiedLinearAttention; "
        "Katharopoulos et al. 2020, arXiv:2006.16236, eq. 4-6"
    ),
    settings={
        "heads": HEADS,
        "kernel": Setting(
            (3, 5),
            rule=lambda v, place: int(v) % 2 == 1 and 0 < int(v) // 2 < place.size,
            because="a kernel is odd, at least 3, and its outermost taps reach a pixel: kernel // 2 < map size",
        ),
    },
)
class LinearAttention(nn.Module):
    """relu(q) (relu(k)^T v) / (relu(q) sum_n relu(k_n) + 1e-6) + DW(v), with DW a depth-wise kernel x kernel convolution.

    As in the official code the convolution has d = C / heads channels and is shared by the heads. The code also adds a learned
    position table to k; it is left out because it binds the weights to one map size, and DW knows positions. The sums run
    over the whole map, not over windows. With N = H W: parameters 4 (C^2 + C) + d (kernel^2 + 1), MACs
    4 N C^2 + 2 N C d + N C + N C kernel^2.
    """

    def __init__(self, width: int, size: int, *, heads: int, kernel: int) -> None:
        super().__init__()
        self.heads, depth = heads, width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.conv = nn.Conv2d(depth, depth, kernel, padding=kernel // 2, groups=depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        v = self.v(tokens)
        q, k = (split_heads(F.relu(f(tokens)), self.heads) for f in (self.q, self.k))
        state = k.transpose(-1, -2) @ split_heads(v, self.heads)
        total = q @ k.sum(-2, keepdim=True).transpose(-1, -2)
        mixed = join_heads(q @ state / (total + 1e-6)).view(x.shape)
        out: Tensor = self.out(mixed + self._local(v.view(x.shape)))
        return out

    def _local(self, v: Tensor) -> Tensor:
        """The convolution of each head's channels: (B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, _ = v.shape
        parts = v.view(batch, height, width, self.heads, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
        local: Tensor = self.conv(parts).view(batch, self.heads, -1, height, width).permute(0, 3, 4, 1, 2)
        return local.reshape(v.shape)


def reference(module: LinearAttention, x: Tensor) -> Tensor:
    """Query by query with explicit weights over all keys: the quadratic form."""
    heads = (module.heads, x.shape[3] // module.heads)
    tokens = x.flatten(1, 2).unbind(1)
    q, k, v = ([naive.linear(f, t).view(-1, *heads) for t in tokens] for f in (module.q, module.k, module.v))
    values = naive.linear(module.v, x).view(*x.shape[:3], *heads).unbind(-2)
    local = torch.cat([naive.conv2d(module.conv, part) for part in values], dim=-1).flatten(1, 2).unbind(1)
    out = []
    for query, near in zip(q, local, strict=True):
        weights = torch.stack([(query.clamp(min=0) * key.clamp(min=0)).sum(-1, keepdim=True) for key in k])
        mixed = (weights * torch.stack(v)).sum(0) / (weights.sum(0) + 1e-6)
        out.append(naive.linear(module.out, mixed.flatten(1) + near))
    return torch.stack(out, dim=1).view(x.shape)
