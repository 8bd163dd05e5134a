"""CSWin: attention in stripes across the map, vertical for half of the heads and horizontal for the others."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Dong et al. 2022 (CSWin), arXiv:2107.00652, table 1"
SOURCE = "https://github.com/microsoft/CSWin-Transformer@f111ae2f771df32006e7afd7916835dd67d4cb9d models/cswin.py"
NORM = "layer(eps=1e-05)"
STRIPES = (1, 2, 7, 0)
"""The last stage's stripe is the map."""


def architecture(width: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one; `depths` and `heads` of each."""
    stages = tuple(
        Stage(
            width << index,
            NORM,
            Op.of("overlap", end_norm="layer") if index else None,
            (Block((_attention(heads[index], STRIPES[index]),), Op.of("mlp", expansion=4)),) * depth,
            Op("plain"),
            "none",
        )
        for index, depth in enumerate(depths)
    )
    stem = Op.of("overlap", stride=4, padding="tight", end_norm="layer")
    return Architecture(224, stem, stages, stem_norm="none")


def _attention(heads: int, stripe: int) -> Op:
    if stripe:
        return Op.of("stripe_attention", heads=heads, stripe=stripe)
    return Op.of("global_attention", heads=heads, lepe=3)


T, SB = (1, 2, 21, 1), (2, 4, 32, 2)
SIZES = {
    "cswin_t": (partial(architecture, 64, T, (2, 4, 8, 16)), 22320552, 4324203008, 82.8),
    "cswin_s": (partial(architecture, 64, SB, (2, 4, 8, 16)), 34643304, 6800714752, 83.6),
    "cswin_b": (partial(architecture, 96, SB, (4, 8, 16, 32)), 77382184, 14955348480, 84.2),
    "cswin_l": (partial(architecture, 144, SB, (6, 12, 24, 24)), 173262664, 33130144512, None),
}
"""Network (width, depths, heads), parameters, MACs, top-1 (none without ImageNet-22k)."""

for _name, (_make, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE))
