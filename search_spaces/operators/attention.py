"""What the attention operators share: the number of heads, the splitting of channels into them, attention inside tiles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.registry import Setting

HEADS = Setting(
    (1, 2, 4, 8),
    rule=lambda v, place: int(v) >= 1 and place.width % int(v) == 0 and place.width // int(v) >= 4,
    because="heads divide the channels and have at least 4 each",
)

EVEN_HEADS = Setting(
    (2, 4, 8),
    rule=lambda v, place: int(v) >= 1 and int(v) % 2 == 0 and HEADS.rule(v, place),
    because="an even number of heads that divide the channels and have at least 4 each",
)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., N, C) -> (..., heads, N, C / heads)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-2, -3)


def join_heads(x: Tensor) -> Tensor:
    """(..., heads, N, d) -> (..., N, heads * d), contiguous.

    No copy where the attention kernel has laid the heads side by side. Whether it does may differ between the tracing of an
    export and its later passes, and a traced view would then be impossible: traced, it is always a copy.
    """
    x = x.transpose(-2, -3)
    if torch.compiler.is_exporting():
        x = x.clone(memory_format=torch.contiguous_format)
    return x.flatten(-2).contiguous()


def attend_in_tiles(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v in each of P tiles: (B, P, N, C), twice (B, P, M, C) -> (B, P, N, C).

    `bias` (1, heads, N, M) serves all tiles, (P, heads, N, M) gives each its own. ONNX takes attention over four dimensions
    only, so the tiles join the batch, or where they differ in bias, the heads: then the bias is not copied for the batch.
    """
    heads = bias.shape[1]
    first = 0 if bias.shape[0] == 1 else 1
    parts = [split_heads(x, heads).flatten(first, first + 1) for x in (q, k, v)]
    mixed = F.scaled_dot_product_attention(
        parts[0], parts[1], parts[2], attn_mask=bias.flatten(0, first)[None] if first else bias
    )
    return join_heads(mixed.view(*q.shape[:2], heads, q.shape[2], -1))
