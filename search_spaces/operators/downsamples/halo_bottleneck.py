"""Downsampling by a bottleneck block whose halo attention has a query for every second row and column."""

from __future__ import annotations

from torch import Tensor

from nas.search_spaces.operators import attention_naive, naive
from nas.search_spaces.operators.bottlenecks import ACTIVATION, RATIO, BottleneckBlock, bottleneck_reference
from nas.search_spaces.operators.positions.base import Layout, Pair
from nas.search_spaces.operators.token_mixers.halo_attention import HaloAttention
from nas.search_spaces.operators.token_mixers.halo_bottleneck import HALO, HEADS
from nas.search_spaces.operators.windows import Windows, cut, uncut
from nas.search_spaces.registry import Kind, Setting, register


class StridedHalo(HaloAttention):
    """Halo attention of every second pixel of every second row to the blocks around them, without biases and projection.

    Position vectors are chosen by the place of the key in its block minus the place of the query among the queries of its
    block, as in timm's code, not by their distance on the map.
    """

    def __init__(self, width: int, size: int, *, heads: int, block: int, halo: int) -> None:
        super().__init__(width, size, heads=heads, block=block, halo=halo, bias=False, out="none")
        half = block // 2
        self.queries = Windows(max(-(-size // 2), 1), half)
        self.rows, self.columns = (
            offsets.view(block, block, -1)[:half, :half].flatten(0, 1)[None].contiguous()
            for offsets in (self.rows, self.columns)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, C), odd sizes rounded up."""
        few = x[:, ::2, ::2]
        plan = self.queries.plan(few.shape[1], few.shape[2])
        tiles = self.mix(
            few, cut(self.q(few), plan), self._around(self.k(x)), self._around(self.v(x)), Layout(self.rows, self.columns)
        )
        return uncut(tiles, plan, few.shape[1], few.shape[2])


@register(
    "halo_bottleneck",
    Kind.DOWNSAMPLE,
    cite="Vaswani et al. 2021 (HaloNet), arXiv:2103.12731, section 3.2; timm byobnet.py SelfAttnBlock, halo_attn.py HaloAttn",
    settings={
        "ratio": RATIO,
        "heads": HEADS,
        "block": Setting(
            (2, 4, 8, 14),
            rule=lambda v, place: int(v) % 2 == 0 and 2 <= int(v) <= place.size,
            because="a block is even, at least 2, and not larger than the map",
        ),
        "halo": HALO,
        "activation": ACTIVATION,
    },
    out_map=lambda height, width, settings: (-(-height // 2), -(-width // 2)),
    sized=True,
)
class HaloBottleneckDownsample(BottleneckBlock):
    """act(shortcut(x) + BN(P2 act(BN(attend(act(BN(P1 x))))))), attend: halo attention with strided queries.

    The shortcut is a pointwise convolution of stride 2 with batch norm. `block` is that of the keys, its queries are a quarter
    of it. As in `halo_attention` maps are continued by zeros that take part.
    """

    def __init__(
        self, in_width: int, width: int, size: int, *, ratio: int, heads: int, block: int, halo: int, activation: str = "relu"
    ) -> None:
        super().__init__(in_width, width, ratio, activation, 2)
        self.attention = StridedHalo(width // ratio, size, heads=heads, block=block, halo=halo)

    def inner(self, y: Tensor) -> Tensor:
        """The attention: (B, C, H, W) -> (B, C, H/2, W/2)."""
        out: Tensor = self.inner_norm(self.attention(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return out


def reference(module: HaloBottleneckDownsample, x: Tensor) -> Tensor:
    """Layer by layer, the attention query by query."""
    return bottleneck_reference(module, x, lambda y: _attention_reference(module.attention, y))


def _attention_reference(module: StridedHalo, x: Tensor) -> Tensor:
    """Query by query, over the block of its own pixel and the rim."""
    block, halo = module.blocks.window, module.halo

    def sees(head: int, i: int, j: int) -> list[Pair]:
        tops = [2 * n // block * block for n in (i, j)]
        places = [range(top - halo, top + block + halo) for top in tops]
        inside = [(2 * n - top) // 2 for n, top in zip((i, j), tops, strict=True)]
        return [Pair(y - tops[0] - inside[0], z - tops[1] - inside[1], (i, j), (y, z)) for y in places[0] for z in places[1]]

    return attention_naive.mixed(module, x[:, ::2, ::2], x, naive.linear(module.v, x), sees)
