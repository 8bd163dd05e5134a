"""OverLoCK: an overview of the image first, then a closer look by convolutions whose kernels the overview helps to make."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Lou and Yu 2025 (OverLoCK), arXiv:2502.20087, table 1"
SOURCE = "https://github.com/LMMMEng/OverLoCK@2c8ab3b29e3a11fb4a2510d98e4d9ed8b33cf091 models/overlock.py"
NOTE = "in training form, without the second classifier that helps its training; MACs with merged kernels, as it evaluates"
KERNELS = (17, 15, 13, 7)
PLAIN, SCALED = Op("plain"), Op.of("residual_scale", shifted=True)
DOWN = Op.of("overlap", bias=False, end_norm="batch")
LOCAL = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None, residual=PLAIN, norm="none")
"""The depth-wise convolution with a skip that stands before each part of a published block."""


def architecture(
    widths: tuple[int, ...], base: tuple[int, ...], focus: tuple[int, ...], heads: tuple[int, ...]
) -> Architecture:
    """`base`: blocks of the base net's three stages and of the overview net, `focus`: those of the focus net's two stages.

    The focus net carries a context of a quarter of the overview's width in the last channels of its stream.
    """
    carried = widths[3] // 4
    plain = [_base(index, widths[index], base[index]) for index in range(4)]
    told = Block((), None, width=carried, norm="none")
    overview = Stage(widths[3], "layer", DOWN, (*plain[3].blocks, told), SCALED, "none")
    looks = (
        Stage(widths[2] + carried, "layer", Op("join_overview"), _focus(focus[0], heads[0], 13, carried, 0), SCALED, "none"),
        Stage(
            widths[3] + carried,
            "layer",
            Op.of("carried_overlap", carried=carried),
            _focus(focus[1], heads[1], 7, carried, 1),
            SCALED,
            "none",
        ),
    )
    return Architecture(
        224,
        Op.of("double_convs", stride=4),
        (*plain[:3], *looks),
        Op.of("projected_pool", hidden=1024, bias=False),
        stem_norm="none",
        head_norm="batch",
        overview=(overview,),
        overview_at=3,
    )


def _base(index: int, width: int, depth: int) -> Stage:
    block = Block((Op.of("large_kernel_block", kernel=KERNELS[index], expansion=4),), None)
    down = DOWN if index else None
    return Stage(width, "layer", down, (LOCAL, block) * depth, SCALED if index > 1 else PLAIN, "none")


def _focus(depth: int, heads: int, kernel: int, carried: int, refreshed: int) -> tuple[Block, ...]:
    """Blocks of which all but the first, or with `refreshed` all, renew the context from the overview before they begin."""
    refresh = Block((Op.of("context_refresh", carried=carried),), None, residual=Op("none"), norm="none")
    mixer = Op.of("carried_context_conv", carried=carried, heads=2 * heads, kernel=kernel, small=5)
    mlp = Op.of("grn_mlp", expansion=3, conv=True, carried=carried)
    block = (LOCAL, Block((mixer,), None), LOCAL, Block((), mlp))
    blocks = (refresh, *block) * depth
    return blocks if refreshed else blocks[1:]


SIZES = {
    "overlock_xt": ((56, 112, 256, 336), (2, 2, 3, 2), (6, 2), (4, 6), 16969600, 2714652904, 82.7),
    "overlock_t": ((64, 128, 256, 512), (4, 4, 6, 2), (12, 2), (4, 8), 34476448, 5671956288, 84.2),
    "overlock_s": ((64, 128, 320, 512), (6, 6, 8, 3), (16, 3), (8, 16), 57795748, 9938203968, 84.8),
    "overlock_b": ((80, 160, 384, 576), (8, 8, 10, 4), (20, 4), (6, 9), 97434816, 17162826896, 85.1),
}
"""Widths, blocks of the base and overview nets, of the focus net, heads, parameters, MACs, top-1."""

for _name, (*_how, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, *_how), _params, _macs, 224, _top1, CITE, SOURCE, note=NOTE))
