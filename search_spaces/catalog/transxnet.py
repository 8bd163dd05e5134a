"""TransXNet: half of the channels convolved with kernels made from the image, half attending to a coarser map."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Lou et al. 2023 (TransXNet), arXiv:2310.19380, table 1"
SOURCE = "https://github.com/LMMMEng/TransXNet@ce2c73db4ae7d216db16bcb877238e4526d9e0cf models/transxnet.py"
REDUCTIONS = (8, 4, 2, 1)


def architecture(
    widths: tuple[int, ...], depths: tuple[int, ...], mixtures: tuple[int, ...], heads: tuple[int, ...],
    expansions: tuple[int, ...],
) -> Architecture:  # fmt: skip
    """A published block is two of ours: a depth-wise convolution that is added to the stream, and the rest.

    The block before those of a stage is the table of positions that they share.
    """
    stages = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        more = {} if mixtures[index] == 2 else {"mixtures": mixtures[index]}
        pairs = {"heads": heads[index], "reduction": REDUCTIONS[index]}
        table = Block((Op.of("pair_positions", **pairs),), None, residual=Op("none"), norm="none")
        mixer = Op.of("dual_mixer", kernel=7, **pairs, **more)
        position = Block((Op.of("depthwise_conv", kernel=7, dilation=1),), None, residual=Op("plain"), norm="none")
        mixed = Block((mixer,), Op.of("multi_scale_mlp", expansion=expansions[index]))
        down = Op.of("overlap", bias=False, end_norm="batch") if index else None
        scale = Op.of("shifted_scale", init=1e-5)
        stages.append(Stage(width, "group", down, (table, *((position, mixed) * depth)), scale, "none"))
    return Architecture(224, Op.of("overlap", stride=4, bias=False), tuple(stages), stem_norm="batch")


SIZES = {
    "transxnet_t": ((48, 96, 224, 448), (3, 3, 9, 3), (2, 2, 2, 2), (1, 2, 4, 8), (4, 4, 4, 4), 12834808, 1804813624, 81.6),
    "transxnet_s": ((64, 128, 320, 512), (4, 4, 12, 4), (2, 2, 3, 4), (1, 2, 5, 8), (6, 6, 4, 4), 26864068, 4603116800, 83.8),
    "transxnet_b": ((76, 152, 336, 672), (4, 4, 21, 4), (2, 2, 4, 4), (2, 4, 8, 16), (8, 8, 4, 4), 48009002, 8347095104, 84.6),
}
"""Widths, depths, kernels mixed, heads, expansions, parameters, MACs, top-1."""

for _name, (*_how, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, *_how), _params, _macs, 224, _top1, CITE, SOURCE))
