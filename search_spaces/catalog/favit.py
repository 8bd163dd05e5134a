"""FaViT: attention of three channel groups to keys of three grains."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Qin et al. 2023 (FaViT), arXiv:2312.08614, table 1"
SOURCE = "https://github.com/q2479036243/FaViT@529b46be9a737537bff2e6f1a00e0455fc0ae802 FaViT/classification/favit.py"
REDUCTIONS, EXPANSIONS, WINDOW = (8, 4, 2, 1), (8, 6, 4, 4), 7


def architecture(width: int, depths: tuple[int, ...]) -> Architecture:
    """The skeleton of PVTv2: `width` channels and one head in the first stage, twice as many in each later one."""
    stages = tuple(
        Stage(
            width << index,
            "layer",
            Op.of("overlap", end_norm="layer") if index else None,
            (_block(index),) * depth,
            Op("plain"),
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("overlap", stride=4), stages, stem_norm="layer(eps=1e-05)")


def _block(stage: int) -> Block:
    mixer = Op.of("factorised_attention", heads=1 << stage, reduction=REDUCTIONS[stage], window=WINDOW)
    return Block((mixer,), Op.of("conv_mlp", expansion=EXPANSIONS[stage]))


SIZES = {
    "favit_b0": (32, (2, 2, 6, 2), 3427704, 632135696, 71.5),
    "favit_b1": (64, (2, 2, 6, 2), 12958568, 2343909952, 79.4),
    "favit_b2": (64, (2, 3, 18, 3), 24919896, 4457599040, 82.3),
    "favit_b3": (96, (2, 3, 14, 3), 48746440, 8512162080, 83.4),
}
"""Width, depths, parameters, MACs, top-1."""

for _name, (_width, _depths, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _width, _depths), _params, _macs, 224, _top1, CITE, SOURCE))
