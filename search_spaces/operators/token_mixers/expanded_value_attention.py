"""Global attention with any number of key and of value channels, and a bias for each distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.channel_mixers.mlp import batch_normed
from nas.search_spaces.operators.convolution import ConvNorm, conv_norm_reference, folded_norm
from nas.search_spaces.operators.positions.symmetric_table import SymmetricTablePosition
from nas.search_spaces.operators.token_mixers.global_attention import everywhere
from nas.search_spaces.registry import Group, Kind, Setting, flag, one_of, register

HEADS = Setting((2, 4, 8), rule=lambda v, place: 1 <= int(v) <= 64, because="there are 1 to 64 heads")
KEY_WIDTH = Setting((16, 32), rule=lambda v, place: 4 <= int(v) <= 128, because="a key has 4 to 128 channels in each head")
VALUE_RATIO = Setting((1, 2, 4), rule=lambda v, place: 1 <= int(v) <= 16, because="a value is 1 to 16 times as wide as a key")
ACT = one_of("none", "relu", "hardswish", "gelu", "silu", default="none")


@register(
    "expanded_value_attention",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Graham et al. 2021 (LeViT), arXiv:2104.01136, section 4; timm levit.py Attention; Li et al. 2022 (EfficientFormer), "
    "arXiv:2206.01191, timm efficientformer.py Attention; LSNet, arXiv:2503.23135, official lsnet.py Attention",
    settings={
        "heads": HEADS,
        "key_width": KEY_WIDTH,
        "value_ratio": VALUE_RATIO,
        "act": ACT,
        "batch_norm": flag(False),
        "query_conv": flag(False),
        "distances": flag(True),
    },
)
class ExpandedValueAttention(nn.Module):
    """out(act(softmax(q k^T / sqrt(d) + B) v)), with d = key_width in each head and values value_ratio times as wide.

    B is read from a table by the distances along rows and columns; beyond those of the map that the operator was built for the
    last entry serves. Without `distances` there is no B, as in ViT-ResNAS (arXiv:2109.00642, ratio 1). `batch_norm` puts one
    behind each projection instead of a bias (LeViT with hardswish and ratio 2, LSNet with ReLU); `query_conv` a depth-wise 3x3
    convolution with batch norm behind q (LSNet). EfficientFormer has neither and ratio 4. With n = heads * key_width and w = n
    value_ratio: MACs 2 N C (n + w) + N^2 (n + w), and 9 N n of the convolution.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        heads: int,
        key_width: int,
        value_ratio: int,
        act: str = "none",
        batch_norm: bool = False,
        query_conv: bool = False,
        distances: bool = True,
    ) -> None:
        super().__init__()
        narrow, wide = heads * key_width, heads * key_width * value_ratio
        self.heads = heads
        self.q, self.k = nn.Linear(width, narrow, not batch_norm), nn.Linear(width, narrow, not batch_norm)
        self.v, self.out = nn.Linear(width, wide, not batch_norm), nn.Linear(wide, width, not batch_norm)
        self.q_norm, self.k_norm = own_norm(batch_norm, narrow), own_norm(batch_norm, narrow)
        self.v_norm, self.out_norm = own_norm(batch_norm, wide), own_norm(batch_norm, width)
        self.conv = ConvNorm(narrow, 3) if query_conv else None
        self.act = activation(act)
        self.position = SymmetricTablePosition(width, heads, size, narrow) if distances else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        q, k, v = projected(self.q, self.q_norm, x), projected(self.k, self.k_norm, x), projected(self.v, self.v_norm, x)
        if self.conv is not None:
            q = self.conv(q.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        bias = None if self.position is None else self.position.bias(everywhere(x.shape[1], x.shape[2], x), x)
        y = self.act(attend(q, k, v, bias, self.heads))
        return projected(self.out, self.out_norm, y).view(x.shape)


def own_norm(batch_norm: bool, width: int) -> nn.Module:
    """The norm behind a projection."""
    return nn.BatchNorm2d(width) if batch_norm else nn.Identity()


def projected(layer: nn.Linear, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(layer(x)) over the last dimension of (B, ..., C); in evaluation the norm scales the weights instead of the map."""
    if not isinstance(norm, nn.BatchNorm2d):
        y: Tensor = layer(x)
        return y
    if norm.training:
        return batch_normed(norm, layer(x.reshape(x.shape[0], 1, -1, x.shape[-1]))).view(*x.shape[:-1], -1)
    scale, bias = folded_norm(norm)
    return F.linear(x, layer.weight * scale[:, None], bias)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Maps of queries, keys and values, and the bias (1, heads, N, M) of their pairs: (B, N, heads * value channels)."""
    q, k, v = (split_heads(part.flatten(1, 2), heads) for part in (q, k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return join_heads((scores if bias is None else scores + bias).softmax(-1) @ v)


def macs(
    width: int,
    size: int,
    *,
    heads: int,
    key_width: int,
    value_ratio: int,
    act: str = "none",
    batch_norm: bool = False,
    query_conv: bool = False,
    distances: bool = True,
) -> int:
    """Multiply-adds for one image."""
    pixels, narrow = size**2, heads * key_width
    both = narrow * (1 + value_ratio)
    return 2 * pixels * width * both + pixels**2 * both + (9 * pixels * narrow if query_conv else 0)


def reference(module: ExpandedValueAttention, x: Tensor) -> Tensor:
    """Query by query, key by key."""
    q = naive_projected(module.q, module.q_norm, x)
    k, v = naive_projected(module.k, module.k_norm, x), naive_projected(module.v, module.v_norm, x)
    if module.conv is not None:
        q = conv_norm_reference(module.conv, q)
    places = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]
    tokens = [naive_query(module.position, module.heads, q[:, i, j], k, v, (i, j)) for i, j in places]
    y = naive_activation(module.act, torch.stack(tokens, dim=1)).unflatten(1, x.shape[1:3])
    return naive_projected(module.out, module.out_norm, y)


def naive_projected(layer: nn.Linear, norm: nn.Module, x: Tensor) -> Tensor:
    """Output channel by output channel, then normed."""
    y = naive.linear(layer, x)
    return naive.batch_norm(norm, y) if isinstance(norm, nn.BatchNorm2d) else y


def naive_query(
    position: SymmetricTablePosition | None, heads: int, query: Tensor, k: Tensor, v: Tensor, place: tuple[int, int]
) -> Tensor:
    """What one query (B, n) at `place` among the keys takes from the values: (B, w)."""
    places = [(y, z) for y in range(k.shape[1]) for z in range(k.shape[2])]
    keys, values = ([part[:, y, z].unflatten(-1, (heads, -1)) for y, z in places] for part in (k, v))
    bias = None
    if position is not None:
        far = position.reach - 1
        bias = [position.distances[min(abs(y - place[0]), far), min(abs(z - place[1]), far)] for y, z in places]
    return naive.attend(query.unflatten(-1, (heads, -1)), keys, values, bias).flatten(1)
