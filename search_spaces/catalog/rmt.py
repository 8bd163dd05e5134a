"""RMT and PPMA: attention that falls with the distance, along rows and columns in the early stages."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Fan et al. 2024 (RMT), arXiv:2309.11523, table 1"
SOURCE = "https://github.com/qhfan/RMT@32ea21417a4d82ba6481f930f94cb4696dda0a8e classfication_release/RMT.py"
CITE_PATH = "Zhao et al. 2025 (PPMA), arXiv:2506.15940, table 1"
SOURCE_PATH = "https://github.com/zhongchenzhao/PPMA@eb6491e64a42130761b904ce8c6a2fb5f8ccfcff classification/models/PPMA.py"
DECAYS = {4: "decay", 5: "decay_5", 6: "decay_6"}


def architecture(
    widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], expansions: tuple[int, ...], axial: int,
    positions: tuple[str, ...], scaled: bool,
) -> Architecture:  # fmt: skip
    """`axial` stages with decomposed attention, then global attention; `scaled`: layer scale in the last two stages.

    A published block is two of ours: a depth-wise convolution that is added to the stream, and the rest.
    """
    stages = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        mixer = _mixer(index < axial, heads[index], positions[index])
        mlp = Op.of("conv_mlp", expansion=expansions[index], skip=True, late=True)
        convolved = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None, residual=Op("plain"), norm="none")
        residual = Op.of("layer_scale", init=1e-6) if scaled and index > 1 else Op("plain")
        down = Op.of("overlap", end_norm="batch") if index else None
        stages.append(Stage(width, "layer", down, (convolved, Block((mixer,), mlp)) * depth, residual, "none"))
    head = Op.of("projected_pool", hidden=1024)
    stem = Op.of("double_convs", stride=4, bias=True)
    return Architecture(224, stem, tuple(stages), head, stem_norm="none", head_norm="batch")


def _mixer(axial: bool, heads: int, position: str) -> Op:
    """A prior is named where it is not the usual one of its pattern."""
    if not axial:
        return Op.of("global_attention", heads=heads, position=position, lepe=5)
    if position == "polyline":
        return Op.of("axial_attention", heads=heads, position=position, orders=2)
    return Op.of("axial_attention", heads=heads, **({} if position == "decay" else {"position": position}))


def rmt(
    widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], expansions: tuple[int, ...], axial: int,
    spans: tuple[int, ...], scaled: bool,
) -> Architecture:  # fmt: skip
    """Fixed decays; `spans` says over which range their exponents reach in each stage."""
    return architecture(widths, depths, heads, expansions, axial, tuple(DECAYS[span] for span in spans), scaled)


def ppma(
    widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], expansions: tuple[int, ...], axial: int,
    scaled: bool,
) -> Architecture:  # fmt: skip
    """Decays that the tokens decide."""
    return architecture(widths, depths, heads, expansions, axial, ("polyline",) * len(widths), scaled)


PLAIN, WIDE, LARGE = (64, 128, 256, 512), (80, 160, 320, 512), (112, 224, 448, 640)
T, S, B = (2, 2, 8, 2), (3, 4, 18, 4), (4, 8, 25, 8)
FOUR, FIVE, SEVEN = (4, 4, 8, 16), (5, 5, 10, 16), (7, 7, 14, 20)
THREES, MIXED = (3, 3, 3, 3), (4, 4, 3, 3)

SIZES = {
    "rmt_t": (PLAIN, T, FOUR, THREES, 2, (4, 4, 6, 6), False, 14334216, 2637220864, 82.4),
    "rmt_s": (PLAIN, S, FOUR, MIXED, 3, (4, 4, 6, 6), False, 26967240, 4776574976, 84.1),
    "rmt_b": (WIDE, B, FIVE, MIXED, 3, (5, 5, 6, 6), True, 54154896, 10373118208, 85.0),
    "rmt_l": (LARGE, B, SEVEN, MIXED, 3, (6, 6, 6, 6), True, 95464864, 19487964928, 85.5),
}
"""Widths, depths, heads, expansions, axial stages, spans of the decays, layer scale, parameters, MACs, top-1."""
PATHS = {
    "ppma_t": (PLAIN, T, FOUR, THREES, 2, False, 14335272, 2696729600, 82.6),
    "ppma_s": (PLAIN, S, FOUR, MIXED, 3, False, 26969472, 4899606528, 84.2),
    "ppma_b": (WIDE, B, FIVE, MIXED, 3, True, 54158524, 10600315136, 85.0),
}
"""Widths, depths, heads, expansions, axial stages, layer scale, parameters, MACs, top-1."""

for _name, (_widths, _depths, _heads, _expansions, _axial, _spans, _scaled, _params, _macs, _top1) in SIZES.items():
    _make = partial(rmt, _widths, _depths, _heads, _expansions, _axial, _spans, _scaled)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE))
for _name, (_widths, _depths, _heads, _expansions, _axial, _scaled, _params, _macs, _top1) in PATHS.items():
    _path = partial(ppma, _widths, _depths, _heads, _expansions, _axial, _scaled)
    add(Entry(_name, _path, _params, _macs, 224, _top1, CITE_PATH, SOURCE_PATH))
