"""Linear attention among short binary codes, which a learned kernel hash gives to queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS, join_heads, split_heads
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "hash_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite=(
        "Liu et al. 2022 (EcoFormer), arXiv:2209.09004, section 4; official pvt/performer.py EcoformerSelfAttention and "
        "pvt/hashing/ksh.py KernelSH"
    ),
    settings={
        "heads": HEADS,
        "bits": Setting((8, 16, 32), rule=lambda v, place: 1 <= int(v) <= 64, because="codes have 1 to 64 bits"),
        "anchors": Setting(
            (16, 25, 50), rule=lambda v, place: 1 <= int(v) <= 256, because="there are 1 to 256 anchors", default=25
        ),
        "bias": flag(True),
    },
)
class HashAttention(nn.Module):
    """(b_i sum_j b_j^T v_j + (bits + 1) v_i) / (b_i sum_j b_j + N (bits + 1)), b = sign(codes (K(u, anchors) - centre)).

    u is one projection of x, queries and keys at once, of length 1 in each head; K is a Gaussian kernel whose variance is the
    mean squared distance of the map's u from the anchors. With scores b_i b_j + bits + 1 > 0 this would be attention; as in the
    official code, and unlike it, the numerator adds the constant to the position's own value only, not to all of them.

    Through sign the gradient passes where |input| < 1 (straight-through). The official code fits codes, anchors and centre
    once, to pairs of near and far keys of the first batch, and keeps them; here they are parameters like others, so that
    they are saved, shared and trained. With A anchors: MACs 3 N C^2 + N A C + N heads bits (A + 1) + 2 N bits C.
    """

    def __init__(self, width: int, size: int, *, heads: int, bits: int, anchors: int = 25, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.u, self.v = (nn.Linear(width, width, bias=bias) for _ in range(2))
        self.out = nn.Linear(width, width)
        self.anchors = nn.Parameter(F.normalize(torch.randn(heads, anchors, width // heads), dim=-1))
        self.centre = nn.Parameter(torch.full((heads, anchors), 0.6))
        self.codes = nn.Parameter(torch.randn(heads, bits, anchors))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        tokens = x.flatten(1, 2)
        v = split_heads(self.v(tokens), self.heads)
        code = self._code(split_heads(self.u(tokens), self.heads))
        shift = self.codes.shape[1] + 1
        state = code.transpose(-1, -2) @ v
        total = code @ code.sum(-2, keepdim=True).transpose(-1, -2)
        mixed = (code @ state + shift * v) / (total + shift * tokens.shape[1])
        out: Tensor = self.out(join_heads(mixed)).view(x.shape)
        return out

    def _code(self, u: Tensor) -> Tensor:
        """The codes of -1 and 1, with the gradient of their input between -1 and 1: (B, heads, N, d) -> (B, heads, N, bits)."""
        u = F.normalize(u, dim=-1)
        lengths = (u * u).sum(-1, keepdim=True) + (self.anchors * self.anchors).sum(-1)[:, None]
        distance = lengths - 2 * u @ self.anchors.transpose(-1, -2)
        kernel = torch.exp(distance / (-2 * distance.mean((-2, -1), keepdim=True)))
        y = (kernel - self.centre[:, None]) @ self.codes.transpose(-1, -2)
        soft = y.clamp(-1, 1)
        return soft + (y.sign() - soft).detach()


def macs(width: int, size: int, *, heads: int, bits: int, anchors: int = 25, bias: bool = True) -> int:
    """Multiply-adds of one map."""
    return size**2 * (3 * width**2 + anchors * width + heads * bits * (anchors + 1) + 2 * bits * width)


def reference(module: HashAttention, x: Tensor) -> Tensor:
    """Query by query with explicit scores of all keys."""
    heads, depth = module.heads, x.shape[3] // module.heads
    tokens = x.flatten(1, 2).unbind(1)
    u, v = ([naive.linear(f, t).view(-1, heads, depth) for t in tokens] for f in (module.u, module.v))
    u = [part / part.pow(2).sum(-1, keepdim=True).sqrt() for part in u]
    distances = [((part[:, :, None] - module.anchors) ** 2).sum(-1) for part in u]
    variance = torch.stack(distances).mean((0, 3))[..., None]
    codes = []
    for distance in distances:
        y = ((torch.exp(-distance / (2 * variance)) - module.centre)[:, :, None] * module.codes).sum(-1)
        hard, soft = torch.where(y > 0, 1.0, -1.0), torch.where(y.abs() < 1, y, 0.0)
        codes.append(hard + soft - soft.detach())
    constant = module.codes.shape[1] + 1
    out = []
    for code, value in zip(codes, v, strict=True):
        scores = torch.stack([(code * other).sum(-1, keepdim=True) for other in codes])
        mixed = (scores * torch.stack(v)).sum(0) + constant * value
        out.append(naive.linear(module.out, (mixed / (scores.sum(0) + constant * len(v))).flatten(1)))
    return torch.stack(out, dim=1).view(x.shape)
