"""What the attention operators share: the number of heads and the splitting of channels into them."""

from __future__ import annotations

from torch import Tensor

from nas.search_spaces.registry import Setting

HEADS = Setting(
    (1, 2, 4, 8),
    rule=lambda v, place: v >= 1 and place.width % v == 0 and place.width // v >= 4,
    because="heads divide the channels and have at least 4 each",
)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., N, C) -> (..., heads, N, C / heads)."""
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(-2, -3)


def join_heads(x: Tensor) -> Tensor:
    """(..., heads, N, d) -> (..., N, heads * d)."""
    return x.transpose(-2, -3).flatten(-2)
