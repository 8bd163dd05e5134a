"""A row of tokens shortened: those that the class token attends to are kept, the rest become one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.content import ranked, taken
from nas.search_spaces.registry import Kind, Setting, Value, flag, register


def _out_map(height: int, width: int, settings: Mapping[str, Value]) -> tuple[int, int]:
    tokens, leading = height * width, int(bool(settings["class_token"]))
    kept = math.ceil(float(settings["keep"]) * (tokens - leading))
    return 1, leading + kept + int(kept < tokens - leading)


@register(
    "token_pruning",
    Kind.DOWNSAMPLE,
    cite="Liang et al. 2022 (EViT), arXiv:2202.07800, section 3; official evit.py Attention, Block",
    settings={
        "heads": HEADS,
        "keep": Setting((0.5, 0.7, 0.9), lambda v, place: 0 < float(v) < 1, "the share of tokens kept lies between 0 and 1"),
        "class_token": flag(True),
        "bias": flag(True),
    },
    out_map=_out_map,
)
class TokenPruning(nn.Module):
    """[class token, the ceil(keep (N - 1)) tokens of the highest scores in their order, sum of the others weighted by score].

    The score of a token is its share of the class token's attention, softmax(q(norm(c)) k(norm(x))^T / sqrt(d)), the mean of
    the heads. Tokens themselves pass through unchanged (a linear map comes first where the width changes), and equal scores
    keep their order. The sum, left out where all are kept, is also what the scores learn from. Without `class_token` the
    mean of all tokens asks, and all may be pruned. In the official block the scores are those of the attention before; here
    they have their own q and k, so that pruning may stand between any two blocks. The map becomes a row.
    """

    def __init__(
        self, in_width: int, width: int, *, heads: int, keep: float, class_token: bool = True,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.keep, self.class_token = heads, keep, class_token
        self.linear = nn.Linear(in_width, width) if in_width != width else None
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.q, self.k = nn.Linear(width, width, bias), nn.Linear(width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, 1, M, width)."""
        tokens = (x if self.linear is None else self.linear(x)).flatten(1, 2)
        leading = int(self.class_token)
        scores = self._scores(self.norm(tokens))[:, leading:]
        rest = tokens[:, leading:]
        kept = math.ceil(self.keep * rest.shape[1])
        order = ranked(scores.detach(), descending=True)
        parts = [tokens[:, :leading], taken(rest, order[:, :kept])]
        if kept < rest.shape[1]:
            weights = taken(scores[:, :, None], order[:, kept:])
            parts.append((taken(rest, order[:, kept:]) * weights).sum(1, keepdim=True))
        return torch.cat(parts, dim=1)[:, None]

    def _scores(self, tokens: Tensor) -> Tensor:
        """The attention of the class token to every token, itself included: (B, N, C) -> (B, N)."""
        asking = tokens[:, :1] if self.class_token else tokens.mean(1, keepdim=True)
        q, k = (f(z).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f, z in ((self.q, asking), (self.k, tokens)))
        weights: Tensor = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        return weights[:, :, 0].mean(1)


def reference(module: TokenPruning, x: Tensor) -> Tensor:
    """Image by image, token by token."""
    y = x if module.linear is None else naive.linear(module.linear, x)
    return torch.stack([_pruned(module, image.flatten(0, 1)) for image in y])[:, None]


def _pruned(module: TokenPruning, tokens: Tensor) -> Tensor:
    normed = naive.layer_norm(module.norm, tokens)
    asking = normed[0] if module.class_token else normed.mean(0)
    q, k = naive.linear(module.q, asking), naive.linear(module.k, normed)
    depth, scores = tokens.shape[1] // module.heads, torch.zeros_like(tokens[:, 0])
    for head in range(module.heads):
        part = slice(head * depth, (head + 1) * depth)
        fits = (k[:, part] * q[part]).sum(1) / depth**0.5
        powers = torch.exp(fits - fits.amax())
        scores = scores + powers / powers.sum() / module.heads
    leading = list(range(int(module.class_token)))
    others = range(len(leading), len(tokens))
    listed = scores.tolist()
    order = sorted(others, key=lambda n: (-listed[n], n))
    kept = math.ceil(module.keep * len(others))
    rows = [tokens[n] for n in (*leading, *order[:kept])]
    if kept < len(others):
        rows.append(sum((scores[n] * tokens[n] for n in order[kept:]), torch.zeros_like(tokens[0])))
    return torch.stack(rows)
