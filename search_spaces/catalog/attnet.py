"""AttNet: attentive convolutions, whose kernels come from the map, and gated perceptrons with a convolution."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Yu et al. 2025 (AttNet, ATConv), arXiv:2510.20092, abstract and code"
SOURCE = "https://github.com/price112/Attentive-Convolution@f4f5a3978789bcadb3d08068d2a50939ec77de16 models/AttNet.py"
EXPANSIONS = (8, 8, 4, 4)


def architecture(widths: tuple[int, ...], depths: tuple[int, ...], normed: bool, scaled: bool) -> Architecture:
    """`normed`: an RMS norm in the perceptron; `scaled`: layer scale."""
    norm = {"inner_norm": "rms"} if normed else {}
    stages = tuple(
        Stage(
            width,
            "layer",
            Op.of("overlap", bias=False, end_norm="batch") if index else None,
            (
                Block(
                    (Op.of("attentive_conv", kernel=3),),
                    Op.of("gated_mlp", expansion=expansion, hidden="two_thirds", conv=True, **norm),
                ),
            )
            * depth,
            residual=Op.of("layer_scale", init=1e-6) if scaled else Op("plain"),
            downsample_norm="none",
        )
        for index, (width, depth, expansion) in enumerate(zip(widths, depths, EXPANSIONS, strict=True))
    )
    stem = Op.of("strided_convs", stride=4)
    return Architecture(224, stem, stages, head=Op("pool_norm"), stem_norm="none", head_norm="layer(eps=1e-05)")


SIZES = {
    "attnet_xxs": ((32, 64, 128, 240), (2, 2, 4, 2), False, False, 2853556, 530700144, None),
    "attnet_xs": ((40, 80, 160, 320), (2, 2, 7, 2), False, True, 5554902, 1004372930, None),
    "attnet_s": ((40, 80, 160, 320), (2, 3, 10, 3), False, False, 7681316, 1327412471, None),
    "attnet_t1": ((48, 96, 224, 384), (2, 3, 12, 3), True, True, 13714900, 2421491568, None),
    "attnet_t2": ((64, 128, 288, 512), (3, 3, 16, 3), True, True, 27010782, 5089462055, 84.4),
    "attnet_t3": ((72, 144, 320, 576), (4, 4, 26, 4), True, True, 49175682, 9382208040, None),
    "attnet_t4": ((96, 192, 384, 768), (5, 5, 28, 5), True, True, 87320214, 16725463968, None),
}
"""Widths, depths, RMS norm, layer scale, parameters, MACs, top-1."""

for _name, (_widths, _depths, _normed, _scaled, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _widths, _depths, _normed, _scaled)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE))
