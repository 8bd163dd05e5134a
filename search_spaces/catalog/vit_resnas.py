"""ViT-ResNAS: three stages of tokens behind a class token, searched heads and hidden widths block by block."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Liao et al. 2021 (ViT-ResNAS), arXiv:2109.00642, table 2"
SOURCE = "https://github.com/yilunliao/vit-search@303e7c30638e9c7aee2e2b329e5c71bd3e89ccb9 nets/vit_sr_supernet.py"
NOTE = "without the classifier of patches that only training uses"
NORM = "layer"
KEY_WIDTHS = (32, 48, 64)
Blocks = tuple[tuple[int, int], ...]
"""Heads and hidden width of each block of a stage."""


def architecture(widths: tuple[int, ...], stages: tuple[Blocks, ...]) -> Architecture:
    """The stem's map becomes a row of tokens at the start of the second of our stages."""
    first = Stage(widths[0], "none", None, (Block((), None, norm="none"),), Op("plain"))
    found = [first]
    for index, (width, blocks) in enumerate(zip(widths, stages, strict=True)):
        downsample = Op("token_row_reduction") if index else Op.of("class_token", positions=True)
        made = tuple(_block(width, KEY_WIDTHS[index], heads, hidden) for heads, hidden in blocks)
        found.append(Stage(width, NORM, downsample, made, Op("plain"), "none"))
    stem = Op.of("conv_patch", stride=14, inner=24, kernel=3, skip=True)
    return Architecture(224, stem, tuple(found), Op("class_token"))


def _block(width: int, key_width: int, heads: int, hidden: int) -> Block:
    attention = Op.of("expanded_value_attention", heads=heads, key_width=key_width, value_ratio=1, distances=False)
    own = {"hidden": hidden} if hidden % width else {}
    return Block((attention,), Op.of("mlp", expansion=hidden // width, **own))


TINY = (
    ((3, 704), (3, 576), (3, 640), (4, 576), (4, 704)),
    ((10, 1408), (8, 1408), (8, 1280), (8, 1408), (10, 1280), (10, 1024)),
    ((10, 2560), (10, 1792), (10, 2816), (8, 2816), (8, 2560)),
)
SMALL = (
    ((5, 880), (5, 880), (7, 800), (5, 720), (5, 720), (5, 720)),
    ((10, 1760), (10, 1440), (10, 1920), (10, 1600), (12, 1600), (12, 1440)),
    ((16, 3200), (12, 3200), (16, 2880), (12, 2240), (14, 2560)),
)
MEDIUM = (
    ((7, 960), (6, 960), (7, 800), (8, 960), (7, 880), (8, 880), (6, 800)),
    ((10, 1120), (14, 1760), (14, 1920), (16, 1760), (14, 1440), (16, 1760), (16, 1920)),
    ((16, 3200), (10, 3840), (16, 3840), (12, 3200), (16, 3520), (14, 3520)),
)
SIZES = {
    "vit_resnas_t": ((176, 352, 704), TINY, 40793552, 1782630272, 80.8),
    "vit_resnas_s": ((220, 440, 880), SMALL, 63724108, 2845501856, 81.7),
    "vit_resnas_m": ((240, 640, 880), MEDIUM, 96442672, 4513135936, 82.4),
}
"""Widths, blocks, parameters, MACs, top-1."""

for _name, (_widths, _stages, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _widths, _stages)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, note=NOTE))
