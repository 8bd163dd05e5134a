"""Cluster tokens: pooled from a map, and refined by attention to its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads

Bounds = list[tuple[int, int]]


def bounds(length: int, parts: int) -> Bounds:
    """Where the cells of adaptive pooling begin and end: they cover an axis, and overlap where it is no multiple."""
    return [(n * length // parts, -(-(n + 1) * length // parts)) for n in range(parts)]


def pooled(x: Tensor, grid: int, kind: str) -> Tensor:
    """Means or maxima ("mean", "max") over grid x grid cells, on maps of any size: (B, H, W, C) -> (B, grid, grid, C)."""
    for dim in (1, 2):
        parts = [x.narrow(dim, first, end - first) for first, end in bounds(x.shape[dim], grid)]
        x = torch.stack([part.mean(dim) if kind == "mean" else part.amax(dim) for part in parts], dim=dim)
    return x


def pooled_reference(x: Tensor, grid: int, kind: str) -> Tensor:
    """Cell by cell."""
    rows = []
    for top, bottom in bounds(x.shape[1], grid):
        cells = [x[:, top:bottom, left:right].flatten(1, 2) for left, right in bounds(x.shape[2], grid)]
        rows.append(torch.stack([cell.mean(1) if kind == "mean" else cell.amax(1) for cell in cells], dim=1))
    return torch.stack(rows, dim=1)


class ClusterGather(nn.Module):
    """s + out(A v([s, x])) for clusters s and tokens x, with A = softmax(q(s) k([s, x])^T / sqrt(d)), one a head.

    The attention of Chang et al. 2023 (STViT), arXiv:2303.08685, official models/layers.py SemanticAttentionBlock, without its
    norms. `hard`: A is 1 / members where a cluster's score is a token's highest (the first of equal ones), else 0, as in
    k-means, Yu et al. 2022 (kMaX-DeepLab), arXiv:2207.04044, eq. 5-7; gradients are those of a softmax over the clusters (the
    official code has none there, and trains the scores by the loss of its masks). With N tokens and m clusters: MACs
    2 m C^2 + 2 (N + m) C^2 + 2 m (N + m) C.
    """

    def __init__(self, width: int, heads: int, *, hard: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.hard = heads, hard
        self.q, self.k, self.v = (nn.Linear(width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, clusters: Tensor, tokens: Tensor) -> Tensor:
        """(B, m, C), (B, N, C) -> (B, m, C)."""
        every = torch.cat((clusters, tokens), dim=1)
        q, k, v = (split_heads(f(z), self.heads) for f, z in ((self.q, clusters), (self.k, every), (self.v, every)))
        mixed = self._assigned(q, k) @ v if self.hard else F.scaled_dot_product_attention(q, k, v)
        moved: Tensor = self.out(join_heads(mixed))
        return clusters + moved

    def _assigned(self, q: Tensor, k: Tensor) -> Tensor:
        """Each column one cluster's, scaled to the mean of the members: (B, heads, m, N + m)."""
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        numbers = torch.arange(q.shape[-2], device=q.device)[:, None]
        hard = (scores.argmax(-2, keepdim=True) == numbers).to(q.dtype)
        soft = scores.softmax(-2)
        return (hard + soft - soft.detach()) / hard.sum(-1, keepdim=True).clamp(min=1)


def gather_reference(module: ClusterGather, clusters: Tensor, tokens: Tensor) -> Tensor:
    """Cluster by cluster, head by head."""
    every = torch.cat((clusters, tokens), dim=1)
    heads = (module.heads, clusters.shape[2] // module.heads)
    q = naive.linear(module.q, clusters).unflatten(-1, heads)
    k, v = (naive.linear(f, every).unflatten(-1, heads) for f in (module.k, module.v))
    scores = torch.stack([(q[:, n, None] * k).sum(-1) / heads[1] ** 0.5 for n in range(q.shape[1])], dim=1)
    if module.hard:
        powers = torch.exp(scores - scores.amax(1, keepdim=True))
        soft = powers / powers.sum(1, keepdim=True)
        hard = torch.zeros_like(soft)
        for place in range(every.shape[1]):
            for image in range(scores.shape[0]):
                for head in range(module.heads):
                    column = scores[image, :, place, head].tolist()
                    hard[image, column.index(max(column)), place, head] = 1
        weights = (hard + soft - soft.detach()) / hard.sum(2, keepdim=True).clamp(min=1)
    else:
        powers = torch.exp(scores - scores.amax(2, keepdim=True))
        weights = powers / powers.sum(2, keepdim=True)
    mixed = torch.stack([(weights[:, n, :, :, None] * v).sum(1).flatten(1) for n in range(q.shape[1])], dim=1)
    return clusters + naive.linear(module.out, mixed)


def gather_macs(width: int, clusters: int, tokens: int) -> int:
    """2 m C^2 + 2 (N + m) C^2 + 2 m (N + m) C."""
    every = tokens + clusters
    return 2 * clusters * width**2 + 2 * every * width**2 + 2 * clusters * every * width
