"""Attention of channels to channels, over all positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

TINY = 1e-12
"""What a vector's length is at least, when it is divided by it."""


@register(
    "channel_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="El-Nouby et al. 2021 (XCiT), arXiv:2106.09681, eq. 4 (cross-covariance attention); timm xcit.py XCA",
    settings={
        "heads": HEADS,
        "depthwise": Setting((0, 3), lambda v, place: v in (0, 3, 5), "0 for none, or a kernel of 3 or 5", 0),
        "bias": flag(True),
    },
)
class ChannelAttention(nn.Module):
    """y = out(A v), A = softmax(t_h q_c . k_e / (|q_c| |k_e|)) between the channels c, e of a head, lengths over the map.

    Each channel of the output is a mean of the value channels of its head, with weights that depend on the whole map: pixels
    are mixed only through these weights, and through `depthwise`, a depth-wise convolution of q, k and v (Zamir et al. 2022,
    Restormer, arXiv:2111.09881, figure 2a). With d = C / heads: MACs 4 N C^2 + 2 N C d (+ 3 N C depthwise^2).
    """

    def __init__(self, width: int, size: int, *, heads: int, depthwise: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.head_scale = nn.Parameter(torch.ones(heads))
        self.depthwise = nn.ModuleDict(
            {
                name: nn.Conv2d(width, width, depthwise, padding=depthwise // 2, groups=width, bias=bias)
                for name in ("q", "k", "v")
                if depthwise
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        q, k, v = (self._projected(name, layer, x) for name, layer in (("q", self.q), ("k", self.k), ("v", self.v)))
        weights = similarity(q, k, self.head_scale).softmax(-1)
        mixed = (weights @ v).flatten(1, 2).transpose(1, 2)
        out: Tensor = self.out(mixed.reshape(x.shape))
        return out

    def _projected(self, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
        """(B, heads, d, N)."""
        y = layer(x).permute(0, 3, 1, 2)
        if name in self.depthwise:
            y = self.depthwise[name](y)
        return y.flatten(2).unflatten(1, (self.heads, -1))


def similarity(q: Tensor, k: Tensor, scale: Tensor) -> Tensor:
    """Cosines of all pairs of channels in a head, times the head's scale: twice (B, heads, d, N) -> (B, heads, d, d).

    The products are divided by the lengths, which is cheaper than to scale both maps before.
    """
    rows, columns = (part.norm(dim=-1).clamp(min=TINY) for part in (q, k))
    return (q @ k.transpose(-1, -2)) * (scale[:, None] / rows)[..., None] / columns[..., None, :]


def projected_reference(layer: nn.Linear, depthwise: nn.Module | None, heads: int, x: Tensor) -> Tensor:
    """Queries, keys or values of a channel attention: (B, N, heads, d)."""
    y = naive.linear(layer, x)
    if isinstance(depthwise, nn.Conv2d):
        y = naive.conv2d(depthwise, y)
    return y.flatten(1, 2).unflatten(-1, (heads, -1))


def cosines_reference(q: Tensor, k: Tensor, channel: int, head: int) -> Tensor:
    """The cosines of one channel's queries with all channels' keys of its head: (B, d)."""
    query, keys = (
        part / (part**2).sum(1, keepdim=True).sqrt().clamp(min=TINY) for part in (q[:, :, head, channel], k[:, :, head])
    )
    return (query[..., None] * keys).sum(1)


def reference(module: ChannelAttention, x: Tensor) -> Tensor:
    """Channel by channel."""
    known = dict(module.depthwise.items())
    convs = [known.get(name) for name in ("q", "k", "v")]
    q, k, v = (
        projected_reference(layer, conv, module.heads, x)
        for layer, conv in zip((module.q, module.k, module.v), convs, strict=True)
    )
    channels = []
    for head in range(module.heads):
        for channel in range(q.shape[-1]):
            weights = torch.exp(cosines_reference(q, k, channel, head) * module.head_scale[head])
            weights = weights / weights.sum(-1, keepdim=True)
            channels.append((v[:, :, head] * weights[:, None]).sum(-1))
    return naive.linear(module.out, torch.stack(channels, dim=-1)).view(x.shape)


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N C d + 3 N C depthwise^2."""
    pixels = size**2
    per_channel = 4 * width + 2 * (width // settings["heads"]) + 3 * settings.get("depthwise", 0) ** 2
    return pixels * width * per_channel
