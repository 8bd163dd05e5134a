"""HorNet: recursive gated convolutions of ever higher order; `gf` filters globally in the last two stages."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Rao et al. 2022 (HorNet), arXiv:2207.14284, table 1"
SOURCE = "https://github.com/raoyongming/HorNet@ac9e21058935f1cf8e27fcca72bbf598fa691d69 hornet.py"
DEPTHS = (2, 3, 18, 2)


def architecture(width: int, filtered: bool) -> Architecture:
    """Orders 2 to 5, one a stage, on `width` channels and twice as many in each later stage; `filtered` is the form GF."""
    stages = tuple(
        Stage(
            width << index,
            "layer",
            Op("conv") if index else None,
            (Block((_mixer(index, filtered),), Op.of("mlp", expansion=4)),) * depth,
            residual=Op.of("layer_scale", init=1e-6),
        )
        for index, depth in enumerate(DEPTHS)
    )
    return Architecture(224, Op.of("patchify", stride=4), stages, head=Op("pool_norm"))


def _mixer(index: int, filtered: bool) -> Op:
    if filtered and index > 1:
        return Op.of("gated_conv", order=index + 2, kernel=3, filter="global_local")
    return Op.of("gated_conv", order=index + 2, kernel=7)


SIZES = {
    "hornet_t": (64, False, 22409512, 3968389312, 82.8),
    "hornet_t_gf": (64, True, 22991848, 3972323424, 83.0),
    "hornet_s": (96, False, 49528264, 8813970720, 83.8),
    "hornet_s_gf": (96, True, 50401768, 8819871888, 84.0),
    "hornet_b": (128, False, 87256680, 15567143296, 84.2),
    "hornet_b_gf": (128, True, 88421352, 15575011520, 84.3),
    "hornet_l": (192, False, 194542504, 34796261952, None),
    "hornet_l_gf": (192, True, 196289512, 34808064288, None),
}
"""Width, form GF, parameters, MACs, top-1."""

for _name, (_width, _filtered, _params, _macs, _top1) in SIZES.items():
    _note = "" if _top1 else "trained on ImageNet-22k only"
    add(Entry(_name, partial(architecture, _width, _filtered), _params, _macs, 224, _top1, CITE, SOURCE, note=_note))
