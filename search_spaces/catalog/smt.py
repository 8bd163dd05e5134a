"""SMT: scale-aware modulation first, then in turn with attention, at last attention only."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Lin et al. 2023 (SMT), arXiv:2307.08579, table 1"
SOURCE = "https://github.com/AFeng-x/SMT@11e954d9b4d0f513397ba011669c7864fd94e5fb models/smt.py"
MODULATION = Op.of("scale_aware_modulation", heads=4, expansion=2)


def architecture(width: int, depths: tuple[int, ...], expansions: tuple[int, ...], stem: Op) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one."""
    stages = tuple(
        Stage(
            width << index,
            "layer",
            Op.of("overlap", end_norm="layer") if index else None,
            tuple(Block((_mixer(index, block),), _mlp(expansion)) for block in range(depth)),
            residual=Op("plain"),
        )
        for index, (depth, expansion) in enumerate(zip(depths, expansions, strict=True))
    )
    return Architecture(224, stem, stages, stem_norm="layer(eps=1e-05)")


def _mixer(index: int, block: int) -> Op:
    """Attention in every second block of the third stage and in all of the fourth, with a convolution of the values."""
    attends = index == 3 or (index == 2 and block % 2 == 1)
    return Op.of("global_attention", heads=2 << index, lepe=3) if attends else MODULATION


def _mlp(expansion: int) -> Op:
    return Op.of("conv_mlp", expansion=expansion, skip=True)


SMALL = Op.of("conv_patch", stride=4, kernel=3, convs=1)
SIZES = {
    "smt_t": (64, (2, 2, 8, 1), (4, 4, 4, 2), SMALL, 11506536, 2461268480, 82.2),
    "smt_s": (64, (3, 4, 18, 2), (4, 4, 4, 2), SMALL, 22550952, 4838833152, 83.7),
    "smt_b": (64, (4, 6, 28, 2), (8, 6, 4, 2), Op.of("conv_patch", stride=4, convs=1), 32037352, 7965901824, 84.3),
    "smt_l": (96, (4, 6, 28, 4), (8, 6, 4, 2), Op.of("conv_patch", stride=4, convs=1, inner=96), 80589544, 17907127296, None),
}
"""Width, depths, expansions, stem, parameters, MACs, top-1."""

for _name, (_width, _depths, _expansions, _stem, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _width, _depths, _expansions, _stem)
    _note = "" if _top1 else "trained on ImageNet-22k"
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, note=_note))
