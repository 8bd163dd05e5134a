"""The bottleneck block with halo attention in the place of its convolution."""

from __future__ import annotations

from torch import Tensor

from nas.search_spaces.operators.bottlenecks import ACTIVATION, RATIO, BottleneckBlock, bottleneck_reference
from nas.search_spaces.operators.token_mixers import halo_attention
from nas.search_spaces.registry import Group, Kind, Setting, register

HEADS = Setting(
    (1, 2, 4, 8),
    rule=lambda v, place: (
        int(v) >= 1 and place.width // int(place.chosen["ratio"]) % int(v) == 0
        and place.width // int(place.chosen["ratio"]) // int(v) >= 4
    ),
    because="heads divide the inner channels and have at least 4 each",
)  # fmt: skip
BLOCK = Setting(
    (2, 4, 8, 14),
    rule=lambda v, place: 2 <= int(v) <= place.size,
    because="a block is at least 2 and not larger than the map",
)
HALO = Setting(
    (1, 2, 3, 4),
    rule=lambda v, place: 1 <= int(v) <= int(place.chosen["block"]),
    because="the rim is at least one pixel and not wider than the block",
)


@register(
    "halo_bottleneck",
    Kind.TOKEN_MIXER,
    family="bottleneck",
    group=Group.ATTENTION,
    cite="Vaswani et al. 2021 (HaloNet), arXiv:2103.12731, section 3.3; timm byobnet.py SelfAttnBlock",
    settings={"ratio": RATIO, "heads": HEADS, "block": BLOCK, "halo": HALO, "act": ACTIVATION},
)
class HaloBottleneck(BottleneckBlock):
    """act(x + BN(P2 act(BN(attend(act(BN(P1 x))))))), attend: `halo_attention` on width / ratio channels.

    The attention has relative positions, no biases, and no projection behind it. As published the block is used without a norm
    and with the residual `none`. MACs: 2 N C h for h inner channels, and those of the attention.
    """

    def __init__(self, width: int, size: int, *, ratio: int, heads: int, block: int, halo: int, act: str = "relu") -> None:
        super().__init__(width, width, ratio, act)
        self.attention = halo_attention.HaloAttention(
            width // ratio, size, heads=heads, block=block, halo=halo, bias=False, out="none"
        )

    def inner(self, y: Tensor) -> Tensor:
        """The attention: (B, C, H, W) -> (B, C, H, W)."""
        out: Tensor = self.inner_norm(self.attention(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return out


def reference(module: HaloBottleneck, x: Tensor) -> Tensor:
    """Layer by layer, the attention query by query."""
    return bottleneck_reference(module, x, lambda y: halo_attention.reference(module.attention, y))


def macs(width: int, size: int, *, ratio: int, heads: int, block: int, halo: int, act: str = "relu") -> int:
    """Multiply-adds for one image."""
    hidden = width // ratio
    inside = halo_attention.macs(hidden, size, heads=heads, block=block, halo=halo, bias=False, out="none")
    return 2 * size**2 * width * hidden + inside
