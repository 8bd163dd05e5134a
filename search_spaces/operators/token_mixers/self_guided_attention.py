"""Attention to tokens that are merged the more coarsely the less significant they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.content import ranked, taken
from nas.search_spaces.registry import Group, Kind, Setting, register

RATES = {8: (196, 56, 28), 4: (49, 14, 7), 2: (2, 1)}
"""How many tokens are merged in one, from the least significant part of the map to the most."""


def _fits(reduction: int, size: int) -> bool:
    return reduction in RATES and RATES[reduction][0] <= size**2 // (2 * len(RATES[reduction]) - 2)


@register(
    "self_guided_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Ren et al. 2023 (SG-Former), arXiv:2308.12216, section 3.3; official sgformer.py Attention with a mask",
    settings={
        "heads": HEADS,
        "reduction": Setting(
            (8, 4, 2),
            rule=lambda v, place: _fits(int(v), place.size),
            because="it is 8, 4 or 2, and the least significant part of the map makes at least one merged token",
        ),
    },
    side="significance",
)
class SelfGuidedAttention(nn.Module):
    """out(softmax(q(x) k(z)^T / sqrt(d)) v(z) + lepe(lepe_linear(x))), z merged from x in the order of significance.

    Tokens are sorted by rising significance; the first quarter, the middle half and the last quarter (for reduction 2 the two
    halves) are cut in runs of 196, 56 and 28 tokens (reduction 8), 49, 14 and 7 (4), or 2 and 1 (2), each merged by a learned
    weighted sum; zeros complete a last run. Without a
    significance map, the norms of the tokens guide. The official code sorts row by row and column by column for
    either half of the heads; both give one sequence but for equal values, which stay row by row here. With N = H W, M merged
    tokens: MACs 3 N C^2 + 2 M C^2 + 2 N M C + 9 N C + N C.
    """

    def __init__(self, width: int, size: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.rates = heads, RATES[reduction]
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.merge = nn.ModuleList(nn.Linear(rate, 1) for rate in self.rates)
        self.lepe_linear, self.lepe = nn.Linear(width, width), nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, significance: Tensor | None = None) -> Tensor:
        """(B, H, W, C), (B, H, W, 1) or None -> (B, H, W, C)."""
        near = self.lepe(self.lepe_linear(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tokens = x.flatten(1, 2)
        merged = self._merged(tokens, x.detach().norm(dim=-1) if significance is None else significance)
        q, k, v = (split_heads(f(z), self.heads) for f, z in ((self.q, tokens), (self.k, merged), (self.v, merged)))
        mixed = join_heads(F.scaled_dot_product_attention(q, k, v)).view(x.shape)
        out: Tensor = self.out(mixed + near)
        return out

    def _merged(self, tokens: Tensor, significance: Tensor) -> Tensor:
        """(B, N, C), one value a token -> (B, M, C)."""
        ordered = taken(tokens, ranked(significance.detach().flatten(1)))
        found, ends = [], parts(tokens.shape[1], len(self.rates))
        for merge, rate, first, end in zip(self.merge, self.rates, ends, ends[1:], strict=False):
            runs = -(-(end - first) // rate)
            part = F.pad(ordered[:, first:end], (0, 0, 0, runs * rate - (end - first)))
            found.append(merge(part.unflatten(1, (runs, rate)).transpose(2, 3))[..., 0])
        return torch.cat(found, dim=1)


def parts(tokens: int, count: int) -> tuple[int, ...]:
    """Where the parts of the sorted tokens begin and end: a quarter, a half and a quarter, or two halves."""
    return (0, tokens // 4, tokens // 4 * 3, tokens) if count == 3 else (0, tokens // 2, tokens)


def reference(module: SelfGuidedAttention, x: Tensor, significance: Tensor | None = None) -> Tensor:
    """Image by image: sort, merge run by run, and attend query by query."""
    near = naive.conv2d(module.lepe, naive.linear(module.lepe_linear, x))
    images = []
    for n in range(x.shape[0]):
        tokens = x[n].flatten(0, 1)
        worth = (tokens.detach() ** 2).sum(1).sqrt() if significance is None else significance[n].flatten()
        order = [m for _, m in sorted((value, m) for m, value in enumerate(worth.tolist()))]
        z = _merged_reference(module, [tokens[m] for m in order])
        heads = (1, module.heads, -1)
        k, v = ([naive.linear(f, token).view(heads) for token in z] for f in (module.k, module.v))
        mixed = [naive.attend(naive.linear(module.q, token).view(heads), k, v).flatten() for token in tokens]
        images.append(torch.stack(mixed).view(x[n].shape))
    return naive.linear(module.out, torch.stack(images) + near)


def _merged_reference(module: SelfGuidedAttention, ordered: list[Tensor]) -> list[Tensor]:
    count, found = len(ordered), []
    quarter = count // 4
    split = [ordered[: count // 2], ordered[count // 2 :]]
    if len(module.rates) == 3:
        split = [ordered[:quarter], ordered[quarter : 3 * quarter], ordered[3 * quarter :]]
    nothing = torch.zeros_like(ordered[0])
    for merge, rate, part in zip(module.merge, module.rates, split, strict=True):
        weight, bias = merge.get_parameter("weight")[0], merge.get_parameter("bias")
        nothing = nothing + 0 * (weight.sum() + bias)
        found += [
            sum((weight[m] * token for m, token in enumerate(part[n : n + rate])), torch.zeros_like(part[0])) + bias
            for n in range(0, len(part), rate)
        ]
    return [token + nothing for token in found]


def macs(width: int, size: int, *, heads: int, reduction: int) -> int:
    """3 N C^2 + 2 M C^2 + 2 N M C + 9 N C and the merging, in which zeros count."""
    pixels, rates = size**2, RATES[reduction]
    ends = parts(pixels, len(rates))
    runs = [-(-(end - first) // rate) for rate, first, end in zip(rates, ends, ends[1:], strict=False)]
    merged = sum(runs)
    merging = sum(run * rate for run, rate in zip(runs, rates, strict=True)) * width
    return 3 * pixels * width**2 + 2 * merged * width**2 + 2 * pixels * merged * width + 9 * pixels * width + merging
