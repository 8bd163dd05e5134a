"""Global attention with a local position that a convolution makes of the input, not of the values."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, nn

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Attention, Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.operators.token_mixers.global_attention import everywhere
from nas.search_spaces.registry import Group, Kind, Setting, flag, register


@register(
    "enhanced_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Zhu et al. 2023 (BiFormer), arXiv:2303.08810, official models/_common.py AttentionLePE; Ren et al. 2023 (SG-Former), "
    "arXiv:2308.12216, official sgformer.py Attention with sr_ratio 1",
    settings={
        "heads": HEADS,
        "kernel": Setting((3, 5), lambda v, place: v in (3, 5, 7), "it is an odd kernel from 3 to 7"),
        "own_values": flag(False),
        **{name: setting for name, setting in modifiers("none").items() if name != "lepe"},
    },
)
class EnhancedAttention(Attention):
    """out(softmax(q k^T / sqrt(d)) v + conv(x)) over the whole map, conv depth-wise.

    `global_attention` with `lepe` convolves v; the last stages of BiFormer convolve x itself, those of SG-Former (where the
    paper has the values) a linear map of x that is no other's: `own_values`. With N = H W: MACs 4 N C^2 + 2 N^2 C +
    kernel^2 N C, and N C^2 with `own_values`.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, kernel: int, own_values: bool = False, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, size, heads=heads, **chosen)
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.own_values = nn.Linear(width, width) if own_values else None

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All tokens are one tile."""
        layout = everywhere(x.shape[1], x.shape[2], x) if self.position.places else None
        q, k, v = (part.flatten(1, 2)[:, None] for part in (q, k, v))
        near = x if self.own_values is None else self.own_values(x)
        return self.mix(x, q, k, v, layout).view(x.shape) + self.conv(near.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def reference(module: EnhancedAttention, x: Tensor) -> Tensor:
    """Every query sees every pixel; then the convolution, tap by tap."""
    x = attention_naive.prepared(module, x)

    def sees(head: int, i: int, j: int) -> list[Pair]:
        return [Pair(y - i, z - j, (i, j), (y, z)) for y in range(x.shape[1]) for z in range(x.shape[2])]

    mixed = attention_naive.mixed(module, x, x, naive.linear(module.v, x), sees)
    near = x if module.own_values is None else naive.linear(module.own_values, x)
    return attention_naive.finished(module, x, mixed + naive.conv2d(module.conv, near))


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N^2 C + kernel^2 N C for the plain form."""
    module = EnhancedAttention(width, size, **settings)
    pixels, own = size * size, module.own_values is not None
    local = pixels * width * (module.conv.kernel_size[0] ** 2 + (width if own else 0))
    return attention_macs(module, pixels, pixels, 1, pixels, pixels) + local
