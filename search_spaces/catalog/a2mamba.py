"""A2Mamba: local and dilated attention whose weights also gather the states of a scan, and global attention at the end."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Lou et al. 2025 (A2Mamba), arXiv:2507.16624, table 1"
SOURCE = "https://github.com/LMMMEng/A2Mamba@a9ea14c6ab11d3cfd5cbc600651d710397a707ad models/a2mamba.py"
KERNELS = (11, 9, 7, 7)


def architecture(
    widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], hidden: tuple[int, ...], scales: str
) -> Architecture:
    """`hidden` channels of the MLPs; `scales` on the branch in all stages, on the stream in the last two, or nowhere.

    A published block is four of ours: twice a depth-wise convolution that is added to the stream, before the attention and
    before the MLP.
    """
    stages = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        ending = {} if index < 3 else {"ending": "global_pairs"}
        mixer = Op.of("attention_scan", heads=heads[index], kernel=KERNELS[index], **ending)
        whole = {} if hidden[index] % width == 0 else {"hidden": hidden[index]}
        mlp = Op.of("conv_mlp", expansion=hidden[index] // width, skip=True, late=True, **whole)
        convolved = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None, residual=Op("plain"), norm="none")
        blocks = (convolved, Block((mixer,), None), convolved, Block((), mlp)) * depth
        down = Op.of("overlap", bias=False, end_norm="batch") if index else None
        stages.append(Stage(width, "layer", down, blocks, _residual(scales, index), "none"))
    head = Op.of("projected_pool", hidden=1024)
    return Architecture(224, Op.of("double_convs", stride=4), tuple(stages), head, stem_norm="none", head_norm="batch")


def _residual(scales: str, stage: int) -> Op:
    if scales == "branch":
        return Op.of("shifted_scale", init=1.0 if stage < 2 else 1e-6)
    return Op.of("residual_scale", shifted=True) if scales == "stream" and stage > 1 else Op("plain")


SIZES = {
    "a2mamba_n": ((32, 64, 128, 192), (2, 2, 8, 2), (2, 2, 4, 8), (128, 256, 384, 576), "none", 4195052, 941672192, 78.7),
    "a2mamba_t": ((48, 96, 256, 448), (2, 2, 10, 2), (2, 4, 8, 16), (192, 384, 768, 1344), "none", 15365506, 2925059840, 83.0),
    "a2mamba_s": (
        (64, 128, 320, 512),
        (2, 4, 12, 4),
        (2, 4, 10, 16),
        (256, 512, 960, 1536),
        "stream",
        30672834,
        5734471168,
        84.7,
    ),
    "a2mamba_b": (
        (96, 192, 384, 512),
        (4, 6, 12, 6),
        (4, 8, 12, 16),
        (384, 768, 1440, 1920),
        "branch",
        51134464,
        12169218816,
        85.7,
    ),
    "a2mamba_l": (
        (96, 192, 448, 672),
        (4, 6, 18, 6),
        (4, 8, 16, 24),
        (384, 768, 1792, 2688),
        "branch",
        93737376,
        18273094720,
        86.1,
    ),
}
"""Widths, depths, heads, channels of the MLPs, scales, parameters, MACs, top-1."""

for _name, (_widths, _depths, _heads, _hidden, _scales, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _widths, _depths, _heads, _hidden, _scales)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE))
