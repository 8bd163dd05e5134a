"""Inception Transformer (iFormer): convolution and maxima for high frequencies beside ever more heads of attention."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Si et al. 2022 (Inception Transformer), arXiv:2205.12956, table 1"
SOURCE = "https://github.com/sail-sg/iFormer@725d8e7f455b5e17be20788b9bcd6c6c505c4be0 models/inception_transformer.py"
Runs = tuple[tuple[int, int], ...]
"""Numbers of attending heads with how many blocks in a row have them."""


def architecture(widths: tuple[int, ...], attending: tuple[Runs, ...]) -> Architecture:
    """Heads of 32 channels, of which `attending` in each block of each stage attend.

    Each stage begins with learned positions; in the code only the last two have layer scale.
    """
    stages = tuple(
        Stage(
            width,
            "layer",
            Op.of("overlap", end_norm="batch") if index else None,
            (_positions(), *_blocks(width, index, runs)),
            residual=Op.of("layer_scale", init=1e-6) if index > 1 else Op("plain"),
            downsample_norm="none",
        )
        for index, (width, runs) in enumerate(zip(widths, attending, strict=True))
    )
    return Architecture(224, Op.of("strided_convs", stride=4, bias=True), stages, stem_norm="none")


def _positions() -> Block:
    return Block((Op("learned_positions"),), None, residual=Op("none"), norm="none")


def _blocks(width: int, index: int, runs: Runs) -> tuple[Block, ...]:
    pool = 2 if index < 2 else 1
    return tuple(
        Block((Op.of("frequency_split", heads=width // 32, attending=heads, pool=pool),), Op.of("mlp", expansion=4))
        for heads, depth in runs
        for _ in range(depth)
    )


SIZES = {
    "iformer_s": ((96, 192, 320, 384), (((1, 3),), ((3, 3),), ((7, 4), (9, 5)), ((11, 3),)), 19866344, 4825828736, 83.4),
    "iformer_b": ((96, 192, 384, 512), (((1, 4),), ((3, 6),), ((8, 7), (10, 7)), ((15, 6),)), 47866216, 9341953536, 84.6),
    "iformer_l": ((96, 192, 448, 640), (((1, 4),), ((3, 6),), ((10, 9), (12, 9)), ((19, 8),)), 86637096, 14004159488, 84.8),
}
"""Widths, attending heads, parameters, MACs, top-1."""

for _name, (_widths, _attending, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _widths, _attending), _params, _macs, 224, _top1, CITE, SOURCE))
