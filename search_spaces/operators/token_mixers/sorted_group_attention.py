"""Attention inside groups of tokens that resemble the same centre, and to the centres themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.operators.content import ranked, taken
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "sorted_group_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Liu et al. 2025 (CATANet), arXiv:2503.06896, section 3.2; official basicsr/archs/catanet_arch.py IASA, IRCA, TAB",
    settings={
        "heads": HEADS,
        "centres": Setting(
            (16, 32, 64),
            rule=lambda v, place: 1 <= int(v) <= place.size**2,
            because="there is at least one centre, and no more than positions",
        ),
        "members": Setting(
            (16, 64, 256),
            rule=lambda v, place: 1 <= int(v) <= place.size**2,
            because="a group has at least one member, and no more than there are positions",
        ),
        "qk_ratio": Setting(
            (1.0, 0.5),
            rule=lambda v, place: 0 < float(v) <= 1 and place.width * float(v) % int(place.chosen["heads"]) == 0,
            because="queries and keys have at most the channels of the values, a multiple of the heads",
            default=1.0,
        ),
        "double_out": flag(False),
        "bias": flag(False),
    },
)
class SortedGroupAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over a token's group and the next one, plus the same over the centres.

    Tokens are sorted by the centre whose direction is nearest theirs (equal ones stay in order), and cut in groups of
    `members`; the last group is filled, and followed, by the tokens before it in reverse order, as in the official code. There
    the centres are a moving average of k-means steps over the batches of training; here they are parameters, which learn from
    the attention to them (results in evaluation are equal). `double_out`: a second linear map after `out`, which the official
    block has. With N = H W, g members: MACs 4 N C^2 + 4 N g C + 2 N centres C + N centres C + 2 centres C^2.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, centres: int, members: int, qk_ratio: float = 1.0,
        double_out: bool = False, bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.members = heads, members
        narrow = int(width * qk_ratio)
        self.q, self.k = nn.Linear(width, narrow, bias), nn.Linear(width, narrow, bias)
        self.v, self.out = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.centre_k, self.centre_v = nn.Linear(width, narrow, bias), nn.Linear(width, width, bias)
        self.centres = nn.Parameter(torch.randn(centres, width))
        self.double_out = nn.Linear(width, width, bias) if double_out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        count = tokens.shape[1]
        members = min(count, self.members)
        groups = -(-count // members)
        order = self._order(tokens.detach())
        tokens = taken(tokens, order)
        q, k, v = self.q(tokens), self.k(tokens), self.v(tokens)
        after = reflected(count, (groups + 1) * members, x)
        q = q.index_select(1, after[: groups * members]).unflatten(1, (groups, members))
        k, v = (part.index_select(1, after).unflatten(1, (groups + 1, members)) for part in (k, v))
        k, v = (torch.cat((part[:, :-1], part[:, 1:]), dim=2).flatten(0, 1) for part in (k, v))
        own, k, v = (split_heads(part, self.heads) for part in (q.flatten(0, 1), k, v))
        mixed = join_heads(F.scaled_dot_product_attention(own, k, v)).unflatten(0, (-1, groups)).flatten(1, 2)
        mixed = (mixed + self._from_centres(q.flatten(1, 2)))[:, :count]
        out: Tensor = self.out(taken(mixed, order.argsort(dim=1)))
        return (out if self.double_out is None else self.double_out(out)).view(x.shape)

    def _order(self, tokens: Tensor) -> Tensor:
        """The tokens by their nearest centres, equal ones in their own order: (B, N)."""
        centres = F.normalize(self.centres.detach(), dim=-1)
        return ranked((F.normalize(tokens, dim=-1) @ centres.transpose(0, 1)).argmax(-1))

    def _from_centres(self, q: Tensor) -> Tensor:
        """Attention of all queries to the centres: (B, N, C)."""
        k, v = (split_heads(f(self.centres), self.heads)[None] for f in (self.centre_k, self.centre_v))
        k, v = (part.expand(q.shape[0], -1, -1, -1) for part in (k, v))
        return join_heads(F.scaled_dot_product_attention(split_heads(q, self.heads), k, v))


def reflected(length: int, wanted: int, like: Tensor) -> Tensor:
    """0, 1, ... length - 1, length - 1, ... 1, 0, 0, 1, ...: the first `wanted` of them."""
    place = torch.arange(wanted, device=like.device) % (2 * length)
    return torch.minimum(place, 2 * length - 1 - place)


def reference(module: SortedGroupAttention, x: Tensor) -> Tensor:
    """Image by image, query by query."""
    return torch.stack([_one_image(module, image.flatten(0, 1)).view(image.shape) for image in x])


def _one_image(module: SortedGroupAttention, tokens: Tensor) -> Tensor:
    count, heads = len(tokens), module.heads
    ways = [centre / (centre**2).sum().sqrt() for centre in module.centres.detach()]
    fits = [[float((token * way).sum()) for way in ways] for token in tokens.detach()]
    order = sorted(range(count), key=lambda n: (fits[n].index(max(fits[n])), n))
    members = min(count, module.members)
    row = order.copy()
    while len(row) < count + 2 * members:
        row += row[::-1]
    q, k, v = (naive.linear(f, tokens).unflatten(-1, (heads, -1)) for f in (module.q, module.k, module.v))
    centre_k, centre_v = (
        naive.linear(f, module.centres).unflatten(-1, (heads, -1)) for f in (module.centre_k, module.centre_v)
    )
    mixed = [torch.zeros(0)] * count
    for rank, n in enumerate(order):
        first = rank // members * members
        near = row[first : first + 2 * members]
        mixed[n] = _attended(q[n], k[near], v[near]) + _attended(q[n], centre_k, centre_v)
    out = naive.linear(module.out, torch.stack(mixed))
    return out if module.double_out is None else naive.linear(module.double_out, out)


def _attended(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query (heads, d) against keys and values (M, heads, d)."""
    scores = (keys * query).sum(-1) / query.shape[-1] ** 0.5
    powers = torch.exp(scores - scores.amax(0))
    return ((powers / powers.sum(0))[..., None] * values).sum(0).flatten()


def macs(
    width: int, size: int, *, heads: int, centres: int, members: int, qk_ratio: float = 1.0, double_out: bool = False,
    bias: bool = False,
) -> int:  # fmt: skip
    """Projections, the choice of centres, groups of `members` queries with twice as many keys, and the centres as keys."""
    tokens, narrow = size**2, int(width * qk_ratio)
    members = min(tokens, members)
    queries = -(-tokens // members) * members
    projections = tokens * width * (2 * narrow + (3 if double_out else 2) * width) + centres * width * (narrow + width)
    return projections + tokens * centres * width + queries * (2 * members + centres) * (narrow + width)
