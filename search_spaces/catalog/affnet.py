"""AFFNet: the skeleton of MobileViT with frequency filters in place of transformers."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Huang et al. 2023 (AFFNet), arXiv:2307.14008, table 1"
SOURCE = (
    "https://github.com/microsoft/TokenMixers@99dbe38c2a5c3ea3c655b8c42c763a6d595e18f9 "
    "Adaptive Frequency Filters/affnet/models/classification/affnet.py"
)
NOTE = "activation ReLU, the code's default: the published configuration is not in the repository"
STEM, LAYERS, FILTER_BLOCKS, WIDEST, ACT = 16, (2, 4, 3), 8, 960, "relu"


def architecture(widths: tuple[int, ...], ratio: int) -> Architecture:
    """`widths` of the five stages, of which the last three filter; `ratio` of the bottlenecks outside the filters' layers."""
    conv, nothing = Block((Op.of("mbconv", kernel=3, ratio=ratio, act=ACT),), None), Block((), None, norm="none")
    down = Op.of("inverted_bottleneck", ratio=ratio, activation=ACT)
    stages = [
        Stage(STEM, "none", None, (nothing,), Op("plain")),
        Stage(widths[0], "none", Op.of("inverted_bottleneck", ratio=ratio, activation=ACT, stride=1), (nothing,), Op("plain")),
        Stage(widths[1], "none", down, (conv, conv), Op("plain")),
    ]
    for width, layers in zip(widths[2:], LAYERS, strict=True):
        block = Block((Op.of("frequency_block", layers=layers, blocks=FILTER_BLOCKS),), None)
        stages.append(Stage(width, "none", down, (block,), Op("none")))
    stem = Op.of("strided_convs", stride=2, activation=ACT, last_activation=True)
    last = min(4, WIDEST // widths[-1])
    wider = {} if last == 4 else {"expansion": last}
    return Architecture(256, stem, tuple(stages), Op.of("pointwise_pool", activation=ACT, **wider))


SIZES = {
    "affnet_et": ((32, 48, 64, 104, 144), 2, 1436264, 396135936, 73.0),
    "affnet_t": ((32, 48, 96, 160, 192), 4, 2654232, 846477312, 77.0),
    "affnet": ((32, 64, 128, 256, 320), 4, 5568696, 1539196416, 79.8),
}
"""Widths, expansion of the bottlenecks, parameters, MACs, top-1."""

for _name, (_widths, _ratio, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _widths, _ratio), _params, _macs, 256, _top1, CITE, SOURCE, note=NOTE))
