"""CvT: queries, keys and values from convolutions, and a class token that joins in the last stage."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Wu et al. 2021 (CvT), arXiv:2103.15808, tables 2 and 3"
SOURCE = "https://github.com/leoxiaobin/CvT@46ab3c832650a655becf60dd2fc5b8628ee5fbc8 lib/models/cls_cvt.py"
NORM = "layer(eps=1e-05)"
WIDTHS, HEADS = (64, 192, 384), (1, 3, 6)
MLP = Op.of("mlp", expansion=4, activation="quick_gelu")


def architecture(depths: tuple[int, ...]) -> Architecture:
    """The third embedding is a stage of its own, as the class token joins between it and the blocks."""
    blocks = [(Block((_attention(heads, index == 2),), MLP),) * depths[index] for index, heads in enumerate(HEADS)]
    embed = Block((), None, norm=NORM)
    stages = (
        Stage(WIDTHS[0], NORM, None, blocks[0], Op("plain")),
        Stage(WIDTHS[1], NORM, Op.of("overlap", end_norm="layer"), blocks[1], Op("plain"), "none"),
        Stage(WIDTHS[2], "none", Op("overlap"), (embed,)),
        Stage(WIDTHS[2], NORM, Op("class_token"), blocks[2], Op("plain"), "none"),
    )
    return Architecture(224, Op.of("overlap", stride=4, padding="tight"), stages, Op("class_token"))


def _attention(heads: int, token: bool) -> Op:
    settings = {"class_token": True} if token else {}
    return Op.of("conv_projection_attention", heads=heads, kernel=3, stride=2, **settings)


SIZES = {"cvt_13": ((1, 2, 10), 19997480, 4566089216, 81.6), "cvt_21": ((1, 4, 16), 31622696, 7177985024, 82.5)}
"""Depths, parameters, MACs, top-1."""

for _name, (_depths, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _depths), _params, _macs, 224, _top1, CITE, SOURCE))
