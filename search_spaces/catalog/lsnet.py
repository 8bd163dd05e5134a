"""LSNet: large kernels that decide small ones, between depth-wise convolutions; attention on the smallest map."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Wang et al. 2025 (LSNet), arXiv:2503.23135, table 1; without distillation"
SOURCE = "https://github.com/jameslahm/lsnet@cbe737c92b7c43ecf02d08545a07f03f1010177c model/lsnet.py"
HEADS, KEY_WIDTH = 4, 16
MLP = Op.of("mlp", expansion=2, activation="relu", bias=False, inner_norm="batch")


def architecture(widths: tuple[int, ...], depths: tuple[int, ...]) -> Architecture:
    """Blocks alternate; a published one with a depth-wise convolution is two of ours. A stage without blocks does nothing."""
    stages = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = [block for number in range(depth) for block in _block(width, number % 2 == 0, index == len(widths) - 1)]
        nothing = Block((), None, norm="none")
        downsample = Op("depthwise") if index else None
        stages.append(Stage(width, "none", downsample, tuple(blocks) or (nothing,), Op("plain")))
    stem = Op.of("strided_convs", stride=8, activation="relu")
    return Architecture(224, stem, tuple(stages), Op("pool_norm"), head_norm="batch")


def _block(width: int, depthwise: bool, attends: bool) -> tuple[Block, ...]:
    if depthwise:
        conv = Op.of("reparam_conv", kernel=3, squeeze=4)
        return Block((conv,), None, residual=Op("none")), Block((), MLP)
    if not attends:
        return (Block((Op.of("large_small_conv", kernel=7, small=3),), MLP),)
    attention = Op.of(
        "expanded_value_attention",
        heads=HEADS,
        key_width=KEY_WIDTH,
        value_ratio=width // (HEADS * KEY_WIDTH),
        act="relu",
        batch_norm=True,
        query_conv=True,
    )
    return (Block((attention,), MLP),)


SIZES = {
    "lsnet_t": ((64, 128, 256, 384), (0, 2, 8, 10), 11409832, 315041408, 74.9),
    "lsnet_s": ((96, 192, 320, 448), (1, 2, 8, 10), 16146304, 536858176, 77.8),
    "lsnet_b": ((128, 256, 384, 512), (4, 6, 8, 10), 23313608, 1240439296, 80.3),
}
"""Widths, depths, parameters, MACs, top-1."""

for _name, (_widths, _depths, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _widths, _depths), _params, _macs, 224, _top1, CITE, SOURCE))
