"""Downsampling by attention: a query for every second row and column, keys everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.operators.positions.base import Layout
from nas.search_spaces.operators.positions.symmetric_table import SymmetricTablePosition
from nas.search_spaces.operators.token_mixers import expanded_value_attention as expanded
from nas.search_spaces.registry import Kind, one_of, register


@register(
    "attention",
    Kind.DOWNSAMPLE,
    cite="Graham et al. 2021 (LeViT), arXiv:2104.01136, section 4.2 (shrinking attention); timm levit.py AttentionDownsample",
    settings={
        "heads": expanded.HEADS,
        "key_width": expanded.KEY_WIDTH,
        "value_ratio": expanded.VALUE_RATIO,
        "activation": one_of("hardswish", "silu", "relu", "gelu", "none", default="hardswish"),
    },
    out_map=lambda height, width, settings: (-(-height // 2), -(-width // 2)),
    sized=True,
)
class AttentionDownsample(nn.Module):
    """BN(out(act(softmax(q k^T / sqrt(d) + B) v))), queries from every second pixel of every second row; no biases.

    As in `expanded_value_attention` with batch norms, B is read by the distances on the larger map.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        size: int,
        *,
        heads: int,
        key_width: int,
        value_ratio: int,
        activation: str = "hardswish",
    ) -> None:
        super().__init__()
        narrow, wide = heads * key_width, heads * key_width * value_ratio
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(in_width, rows, bias=False) for rows in (narrow, narrow, wide))
        self.q_norm, self.k_norm, self.v_norm = (nn.BatchNorm2d(rows) for rows in (narrow, narrow, wide))
        self.out, self.out_norm = nn.Linear(wide, width, bias=False), nn.BatchNorm2d(width)
        self.act = ACTIVATIONS[activation]()
        self.position = SymmetricTablePosition(width, heads, size, narrow)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        few = x[:, ::2, ::2]
        q = expanded.projected(self.q, self.q_norm, few)
        k, v = expanded.projected(self.k, self.k_norm, x), expanded.projected(self.v, self.v_norm, x)
        bias = self.position.bias(strided(x.shape[1], x.shape[2], x), x)
        y = self.act(expanded.attend(q, k, v, bias, self.heads))
        return expanded.projected(self.out, self.out_norm, y).unflatten(1, few.shape[1:3])


def strided(height: int, width: int, like: Tensor) -> Layout:
    """The layout of one tile: queries at every second pixel of every second row of a map, keys at all."""
    rows, columns = (torch.arange(length, device=like.device) for length in (height, width))
    down, right = rows - rows[::2, None], columns - columns[::2, None]
    shape = (down.shape[0], right.shape[0], height, width)
    tile = (1, shape[0] * shape[1], height * width)
    return Layout(down[:, None, :, None].expand(shape).reshape(tile), right[None, :, None].expand(shape).reshape(tile))


def reference(module: AttentionDownsample, x: Tensor) -> Tensor:
    """Query by query, key by key."""
    q = expanded.naive_projected(module.q, module.q_norm, x[:, ::2, ::2])
    k = expanded.naive_projected(module.k, module.k_norm, x)
    v = expanded.naive_projected(module.v, module.v_norm, x)
    places = [(i, j) for i in range(q.shape[1]) for j in range(q.shape[2])]
    tokens = [expanded.naive_query(module.position, module.heads, q[:, i, j], k, v, (2 * i, 2 * j)) for i, j in places]
    y = naive_activation(module.act, torch.stack(tokens, dim=1)).unflatten(1, q.shape[1:3])
    return expanded.naive_projected(module.out, module.out_norm, y)
