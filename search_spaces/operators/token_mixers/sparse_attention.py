"""Attention to the keys that a cheap low-rank prediction of the attention map picks, query by query."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.attention_base import HIDDEN
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "sparse_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Wei et al. 2023 (Sparsifiner), arXiv:2303.13755, section 3; official sparsifiner.py MaskPredictor, Attention",
    settings={
        "heads": HEADS,
        "keep": Setting((0.1, 0.25, 0.5), lambda v, place: 0 < float(v) <= 1, "the share of keys kept is above 0, at most 1"),
        "reduction": Setting(
            (8, 4),
            lambda v, place: int(v) >= 1,
            "the prediction has tokens / reduction basis maps, at least one",
            default=8,
        ),
        "class_token": flag(False),
        "bias": flag(True),
    },
)
class SparseAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over the ceil(keep N) keys of the highest prediction A for each query and head.

    A = softmax(narrow_q(q) (squeeze^T narrow_k(k))^T / sqrt(heads)) |spread|^T, with N / reduction basis maps; the factor
    1 / sqrt(heads) is the code's. Keys as good as the last kept one are kept too. All pairs are scored and the others hidden,
    as in the official code: picking keys query by query costs more memory than it saves. Of that code, the thresholds that
    its configuration sets to save work are left out. With `class_token` the map is a row of `size` tokens, of which the first
    sees everything.

    The official predictor learns from a loss of its own, the distance of A to the full attention. Here A's gradient is added
    to the scores of the kept pairs (forward unchanged), so that the predictor learns from the task. squeeze and spread belong
    to the tokens of one map size; on others they are resized bilinearly. With N = H W, n = N / reduction: MACs
    4 N C^2 + N C^2 / heads + 2 N^2 C + N n C + N^2 n heads.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"squeeze": (0, 1), "spread": (0, 1)}

    def __init__(
        self, width: int, size: int, *, heads: int, keep: float, reduction: int = 8, class_token: bool = False,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.keep, self.class_token = heads, keep, class_token
        self.q, self.k, self.v = (nn.Linear(width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        depth, rows = width // heads, 1 if class_token else size
        self.narrow_q, self.narrow_k = nn.Linear(depth, depth // 2), nn.Linear(depth, depth // 2)
        basis = max(1, rows * size // reduction)
        self.squeeze, self.spread = (nn.Parameter(torch.empty(rows, size, basis)) for _ in range(2))
        for table in (self.squeeze, self.spread):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        q, k, v = (split_heads(f(tokens), self.heads) for f in (self.q, self.k, self.v))
        predicted = self._predicted(q, k, (1, tokens.shape[1]) if self.class_token else (x.shape[1], x.shape[2]))
        budget = math.ceil(self.keep * tokens.shape[1])
        hidden = predicted.detach() < predicted.detach().topk(budget, dim=-1)[0][..., -1:]
        if self.class_token:
            hidden = torch.cat((torch.zeros_like(hidden[:, :, :1]), hidden[:, :, 1:]), dim=2)
        bias = hidden.to(q.dtype) * HIDDEN
        if self.training:
            bias = bias + (predicted - predicted.detach())
        mixed: Tensor = self.out(join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=bias)))
        return mixed.view(x.shape)

    def _predicted(self, q: Tensor, k: Tensor, size: tuple[int, int]) -> Tensor:
        """The low-rank attention map: (B, heads, N, N)."""
        squeeze, spread = (fitted(table, *size).flatten(0, 1) for table in (self.squeeze, self.spread))
        squeeze = squeeze * (self.squeeze.shape[0] * self.squeeze.shape[1] / squeeze.shape[0])
        condensed = self.narrow_k(k).transpose(-1, -2) @ squeeze
        share = ((self.narrow_q(q) @ condensed) * self.heads**-0.5).softmax(-1)
        return share @ spread.abs().transpose(0, 1)


def reference(module: SparseAttention, x: Tensor) -> Tensor:
    """Query by query: the predicted row of the attention map, its largest entries, and attention to those keys."""
    tokens = x.flatten(1, 2)
    size = (1, tokens.shape[1]) if module.class_token else (x.shape[1], x.shape[2])
    tables = [_resized(table, *size) for table in (module.squeeze, module.spread)]
    tables[0] = tables[0] * (module.squeeze[..., 0].numel() / len(tables[0]))
    depth = x.shape[3] // module.heads
    q, k, v = (naive.linear(f, tokens).unflatten(-1, (module.heads, depth)) for f in (module.q, module.k, module.v))
    narrow_q, narrow_k = naive.linear(module.narrow_q, q), naive.linear(module.narrow_k, k)
    images = []
    for image in range(x.shape[0]):
        heads = []
        for h in range(module.heads):
            parts = (part[image, :, h] for part in (q, k, v, narrow_q, narrow_k))
            heads.append(_one_head(module, *parts, *tables))
        images.append(torch.cat(heads, dim=1))
    return naive.linear(module.out, torch.stack(images)).view(x.shape)


def _one_head(
    module: SparseAttention, q: Tensor, k: Tensor, v: Tensor, narrow_q: Tensor, narrow_k: Tensor, squeeze: Tensor,
    spread: Tensor,
) -> Tensor:  # fmt: skip
    count, rows = len(q), []
    basis = torch.stack([(narrow_k * column[:, None]).sum(0) for column in squeeze.unbind(1)])
    for n in range(count):
        predicted = (spread.abs() * _softmax((basis * narrow_q[n]).sum(1) / module.heads**0.5)).sum(1)
        listed = predicted.tolist()
        least = sorted(listed, reverse=True)[math.ceil(module.keep * count) - 1]
        every = module.class_token and n == 0
        kept = [m for m in range(count) if every or listed[m] >= least]
        scores = (k[kept] * q[n]).sum(1) / q.shape[1] ** 0.5
        rows.append((_softmax(scores + (predicted - predicted.detach())[kept])[:, None] * v[kept]).sum(0))
    return torch.stack(rows)


def _softmax(scores: Tensor) -> Tensor:
    powers = torch.exp(scores - scores.amax())
    return powers / powers.sum()


def _resized(table: Tensor, height: int, width: int) -> Tensor:
    rows, columns = (stretch(have, want).to(table) for have, want in zip(table.shape[:2], (height, width), strict=True))
    return torch.einsum("ih,jw,hwm->ijm", rows, columns, table).flatten(0, 1)


def macs(
    width: int, size: int, *, heads: int, keep: float, reduction: int = 8, class_token: bool = False, bias: bool = True
) -> int:
    """Projections, prediction, and the products of all pairs on a size x size map."""
    tokens, depth = size**2, width // heads
    basis, narrow = max(1, (size if class_token else tokens) // reduction), depth // 2
    prediction = heads * (2 * tokens * depth * narrow + 2 * tokens * narrow * basis + tokens**2 * basis)
    return 4 * tokens * width**2 + prediction + 2 * tokens**2 * width
