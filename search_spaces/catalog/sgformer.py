"""SG-Former: attention that finds out what is significant, then attention to tokens merged accordingly."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Ren et al. 2023 (SG-Former), arXiv:2308.12216, table 1"
SOURCE = "https://github.com/OliverRensu/SG-Former@b982803ceb0af70ff20f42784ddac51212ef954e sgformer.py"
REDUCTIONS, WINDOW = (8, 4, 2), 7


def architecture(width: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one; the first block adds learned positions."""
    stages = []
    for index, depth in enumerate(depths):
        blocks = tuple(_block(index, number, heads[index]) for number in range(depth))
        if index == 0:
            blocks = (Block((Op("learned_positions"),), None, residual=Op("none"), norm="none"), *blocks)
        down = Op.of("mbconv", norm="group") if index else None
        stages.append(Stage(width << index, "layer", down, blocks, Op("plain")))
    return Architecture(224, Op.of("even_convs", stride=4), tuple(stages), stem_norm="layer(eps=1e-05)")


def _block(stage: int, number: int, heads: int) -> Block:
    """Both kinds of attention in turn; in the last stage attention to the whole map."""
    if stage == len(REDUCTIONS):
        mixer = Op.of("enhanced_attention", heads=heads, kernel=3, own_values=True)
    elif number % 2:
        mixer = Op.of("self_guided_attention", heads=heads, reduction=REDUCTIONS[stage])
    else:
        mixer = Op.of("hybrid_scale_attention", heads=heads, reduction=REDUCTIONS[stage], window=WINDOW)
    return Block((mixer,), Op.of("conv_mlp", expansion=4, skip=True))


SIZES = {
    "sgformer_s": (64, (2, 4, 16, 1), (2, 4, 8, 16), 22545981, 4783045632, 83.2),
    "sgformer_m": (64, (2, 6, 28, 2), (2, 4, 8, 16), 38689316, 7425649152, 84.1),
    "sgformer_b": (96, (4, 6, 24, 2), (4, 6, 12, 24), 77950293, 15540843264, 84.7),
}
"""Width, depths, heads, parameters, MACs, top-1."""

for _name, (_width, _depths, _heads, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _width, _depths, _heads), _params, _macs, 224, _top1, CITE, SOURCE))
