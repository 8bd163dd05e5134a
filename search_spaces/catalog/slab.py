"""SLAB: Swin and DeiT with linear attention and batch norms that are merged with what follows them."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Guo et al. 2024 (SLAB), arXiv:2405.11582, table 1"
SOURCE = "https://github.com/xinghaochen/SLAB@f58db00b9db3959b5de03986f454aa5ff064279a classification/models/slab_{}.py"
NOTE = "parameters without the layer norms that training begins with and ends without{}"
NORM, MLP, WINDOW = "rep_batch", Op.of("mlp", expansion=4), 7


def swin(width: int, depths: tuple[int, ...]) -> Architecture:
    """Linear attention over the whole map in two stages, then windows, shifted in every second block of the third."""
    stages = []
    for index, depth in enumerate(depths):
        heads = (width << index) // 32
        mixers = [linear(heads)] * depth if index < 2 else [_window(heads, index == 2 and n % 2 == 1) for n in range(depth)]
        down = Op.of("patch_merging", norm="rep_batch") if index else None
        stages.append(Stage(width << index, NORM, down, tuple(Block((op,), MLP) for op in mixers), Op("plain"), "none"))
    return Architecture(224, Op.of("patchify", stride=4), tuple(stages))


def deit(width: int) -> Architecture:
    """Linear attention among the patches, which carry learned positions; the mean of them is classified."""
    positions = Block((Op("learned_positions"),), None, residual=Op("none"), norm="none")
    stage = Stage(width, NORM, None, (positions, *(Block((linear(width // 64),), MLP),) * 12), Op("plain"))
    return Architecture(224, Op.of("patchify", stride=16), (stage,), stem_norm="none")


def linear(heads: int) -> Op:
    """Simplified linear attention over the whole map."""
    return Op.of("linear_attention", heads=heads, kernel=5, position=True)


def _window(heads: int, shift: bool) -> Op:
    return Op.of("window_attention", heads=heads, window=WINDOW, shift=shift)


SWIN = {
    "slab_swin_t": (partial(swin, 96, (2, 2, 6, 2)), 29191837, 4483341312, 81.8),
    "slab_swin_s": (partial(swin, 96, (2, 2, 18, 2)), 50509765, 8733649920, 83.6),
    "slab_swin_b": (partial(swin, 128, (2, 2, 18, 2)), 88971773, 15421313024, None),
}
"""Network (width, depths), parameters, MACs, top-1."""

DEIT = {"slab_deit_t": (192, 6188609, 1139086848, 74.3), "slab_deit_s": (384, 22973057, 4359072768, 80.0)}
"""Width, parameters, MACs, top-1."""

for _name, (_make, _params, _macs, _top1) in SWIN.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE.format("swin"), note=NOTE.format("")))
for _name, (_width, _params, _macs, _top1) in DEIT.items():
    _make, _note = partial(deit, _width), NOTE.format(", and without the unused class token")
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE.format("deit"), note=_note))
