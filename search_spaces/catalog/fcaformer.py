"""FcaFormer: ConvNeXt blocks, then attention that also reads summaries of what the earlier blocks of its stage put out."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Zhang et al. 2022 (FcaFormer), arXiv:2211.07198, table 2"
SOURCE = (
    "https://github.com/hkzhang-git/FcaFormer@7dcd8e0ed207a6c74708ab10553dcd6a6d4ea2bd image_classification/models/fcaformer.py"
)
SCALE = Op.of("layer_scale", init=1e-6)
NORM = "layer(eps=1e-05)"
LONGEST = 12
"""Summaries that a block reads at most."""


def architecture(widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, int]) -> Architecture:
    """`heads` in the last two stages."""
    stages = tuple(
        Stage(
            width,
            "none" if index < 2 else NORM,
            Op("mbconv") if index else None,
            _convolutions(depth) if index < 2 else _attentions(depth, heads[index - 2]),
            residual=SCALE,
            downsample_norm="none",
        )
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True))
    )
    return Architecture(224, Op.of("strided_convs", stride=4), stages, head=Op("pool_norm"))


def _convolutions(depth: int) -> tuple[Block, ...]:
    return (Block((Op.of("convnext_conv", kernel=7, expansion=4),), None),) * depth


def _attentions(depth: int, heads: int) -> tuple[Block, ...]:
    """Attention, then in the place of the stream its convolution with batch norm, then an MLP with two norms.

    Beside the convolution each block but the last of a stage makes the summary that the later ones read.
    """
    blocks: list[Block] = []
    for earlier in range(depth):
        blocks.append(Block((_attention(heads, min(earlier, LONGEST)),), None))
        if earlier < depth - 1:
            blocks.append(Block((Op.of("summarising_conv", kernel=3),), None, residual=Op("none"), norm="none"))
        else:
            conv = Op.of("depthwise_conv", kernel=3, dilation=1, bias=False)
            blocks += (Block((conv,), None, residual=Op("none"), norm="none"), Block((), None, norm="batch"))
        blocks.append(Block((), Op.of("mlp", expansion=4, inner_norm="layer")))
    return tuple(blocks)


def _attention(heads: int, summaries: int) -> Op:
    if not summaries:
        return Op.of("global_attention", heads=heads, position="symmetric_table")
    return Op.of("summary_cross_attention", heads=heads, depth=summaries)


SIZES = {
    "fcaformer_l1": ((64, 128, 192, 320), (2, 2, 6, 2), (6, 10), 6187560, 1365040320, 80.3),
    "fcaformer_l2": ((96, 192, 320, 480), (2, 2, 7, 2), (10, 15), 16275870, 3566905760, 83.1),
    "fcaformer_l3": ((96, 192, 320, 512), (3, 6, 12, 3), (10, 16), 27894484, 6539289856, 84.2),
    "fcaformer_l4": ((128, 256, 512, 768), (3, 6, 12, 3), (16, 24), 65638204, 14207888896, 84.9),
}
"""Widths, depths, heads, parameters, MACs, top-1."""

for _name, (_widths, _depths, _heads, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _widths, _depths, _heads)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE))
