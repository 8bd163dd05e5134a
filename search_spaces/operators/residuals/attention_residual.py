"""The attention residual: each operator reads a learned mixture of what came before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, one_of, register

EPS = 1e-6


@register(
    "attention_residual",
    Kind.RESIDUAL,
    cite="Kimi Team 2026 (Attention Residuals), arXiv:2603.15031; read in the third-party code "
    "wdlctc/open-attention-residuals modeling_attnres.py block_attn_res, for want of a snapshot of the official one",
    settings={"form": one_of("full", "block", "sum", default="full")},
    side="history",
)
class AttentionResidual(Residual):
    """op(norm(h)) with h = sum_i softmax_i(w . v_i / rms(v_i)) v_i over the stage's input and its earlier outputs v_i.

    In the form `full` every operator's output is a value of its own. In the form `block` the outputs of one block are
    summed up: its first operator begins a sum, the others continue it, which is the form `sum`: x + op(norm(h)). A stage
    ends with one more mixture. The query w begins at zero, which makes the mixture a mean. The paper mixes over the whole
    depth of a language model; here a stage begins anew, since maps and widths change.
    """

    def __init__(self, norm: nn.Module, op: nn.Module, width: int, *, form: str = "full") -> None:
        super().__init__(norm, op)
        self.query, self.form = nn.Parameter(torch.zeros(width)), form

    def forward(self, x: Tensor, *side: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, H, W, C) and the values before it, each (B, H, W, C) -> (B, H, W, C), and what the operator emits."""
        y = self.op(self.norm(self.mixture((*side, x))))
        return (self.join(x, y[0]), *y[1:]) if isinstance(y, tuple) else self.join(x, y)

    def mixture(self, values: tuple[Tensor, ...]) -> Tensor:
        """The values (B, H, W, C) weighted by their softmax scores, position by position."""
        stacked = torch.stack(values)
        scores = (stacked @ self.query) * (stacked.square().mean(-1) + EPS).rsqrt()
        return (scores.softmax(0)[..., None] * stacked).sum(0)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum that x is, continued by y, or y alone."""
        return x + y if self.form == "sum" else y


def reference(module: AttentionResidual, x: Tensor, *side: Tensor) -> Tensor:
    """Value by value, with keys normed before the product."""
    values = [*side, x]
    keys = [v / ((v * v).sum(-1, keepdim=True) / v.shape[-1] + EPS).sqrt() for v in values]
    weights = [torch.exp((key * module.query).sum(-1, keepdim=True)) for key in keys]
    mixed, total = torch.zeros_like(x), sum(weights[1:], weights[0])
    for weight, value in zip(weights, values, strict=True):
        mixed = mixed + weight / total * value
    y = module.op(module.norm(mixed))
    return y + x if module.form == "sum" else y
