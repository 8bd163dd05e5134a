"""PVTv2: attention to a map reduced by a strided convolution or by pooling, and MLPs with a depth-wise convolution."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename, split_rows

CITE = "Wang et al. 2022 (PVTv2), arXiv:2106.13797, tables 1 and 2"
SOURCE = "timm 1.0.31 pvt_v2.py"
HEADS, REDUCTIONS, GRID = (1, 2, 5, 8), (8, 4, 2, 1), 7


def architecture(
    widths: tuple[int, ...], depths: tuple[int, ...], expansions: tuple[int, ...], pooled: bool = False
) -> Architecture:
    """`widths`, `depths` and the `expansions` of the MLPs, for each stage; every stage ends with a norm.

    `pooled` (the linear PVTv2) attends to 7 x 7 means, and has a ReLU before the convolutions of the MLPs.
    """
    mlp = partial(Op.of, "conv_mlp", rectified=True) if pooled else partial(Op.of, "conv_mlp")
    stages = []
    for index, (width, depth, expansion) in enumerate(zip(widths, depths, expansions, strict=True)):
        mixer = _pooled(HEADS[index]) if pooled else attention(HEADS[index], REDUCTIONS[index])
        down = Op.of("overlap", end_norm="layer") if index else None
        stages.append(Stage(width, "layer", down, (Block((mixer,), mlp(expansion=expansion)),) * depth, Op("plain")))
    return Architecture(224, Op.of("overlap", stride=4, end_norm="layer"), tuple(stages), stem_norm="none")


def _pooled(heads: int) -> Op:
    return Op.of("pooled_key_attention", heads=heads, grid=GRID)


def attention(heads: int, reduction: int) -> Op:
    """Attention to the reduced map, or to the whole one for a `reduction` of 1."""
    if reduction == 1:
        return Op.of("global_attention", heads=heads)
    return Op.of("spatial_reduction_attention", heads=heads, reduction=reduction)


def rules() -> Rules:
    """From timm's names."""
    block = r"stages\.(\d+)\.blocks\.(\d+)\."
    mixer, channel = r"nodes.s\1b\2_mixer.", r"nodes.s\1b\2_channel."
    return (
        rename(r"patch_embed\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"patch_embed\.norm\.(\w+)", r"nodes.stem.op.norm.\1"),
        rename(r"stages\.(\d+)\.downsample\.proj\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(r"stages\.(\d+)\.downsample\.norm\.(\w+)", r"nodes.s\1_downsample.op.norm.\2"),
        rename(block + r"norm1\.(\w+)", mixer + r"norm.\3"),
        rename(block + r"norm2\.(\w+)", channel + r"norm.\3"),
        *attention_rules(block, mixer),
        rename(block + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\3"),
        rename(block + r"mlp\.dwconv\.(\w+)", channel + r"op.conv.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\3"),
        *(rename(rf"stages\.{n}\.norm\.(\w+)", rf"nodes.s{n + 1}_downsample.norm.\1") for n in range(3)),
        rename(r"stages\.3\.norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
    )


def rules_pooled() -> Rules:
    """From timm's names of the linear PVTv2, whose reduction is a 1x1 convolution."""
    refine = r"stages\.(\d+)\.blocks\.(\d+)\.attn\.sr\.(\w+)"
    return (rename(refine, r"nodes.s\1b\2_mixer.op.refine.\3", lambda w: w.flatten(1) if w.ndim == 4 else w), *rules())


def attention_rules(block: str, mixer: str) -> Rules:
    """The attention to a reduced map; `block` has two groups."""
    return (
        rename(block + r"attn\.q\.(\w+)", mixer + r"op.q.\3"),
        split_rows(block + r"attn\.kv\.(\w+)", (mixer + r"op.k.\3", mixer + r"op.v.\3")),
        rename(block + r"attn\.proj\.(\w+)", mixer + r"op.out.\3"),
        rename(block + r"attn\.sr\.(\w+)", mixer + r"op.reduce.\3"),
        rename(block + r"attn\.norm\.(\w+)", mixer + r"op.norm.\3"),
    )


B0, WIDTHS = (32, 64, 160, 256), (64, 128, 320, 512)
WIDE, NARROW = (8, 8, 4, 4), (4, 4, 4, 4)
SIZES = {
    "pvt_v2_b0": (partial(architecture, B0, (2, 2, 2, 2), WIDE), 3666760, 566065664, 70.7),
    "pvt_v2_b1": (partial(architecture, WIDTHS, (2, 2, 2, 2), WIDE), 14009000, 2108355584, 78.7),
    "pvt_v2_b2": (partial(architecture, WIDTHS, (3, 4, 6, 3), WIDE), 25362856, 4026734592, 82.1),
    "pvt_v2_b3": (partial(architecture, WIDTHS, (3, 4, 18, 3), WIDE), 45238696, 6897303552, 83.1),
    "pvt_v2_b4": (partial(architecture, WIDTHS, (3, 8, 27, 3), WIDE), 62556072, 10101116416, 83.7),
    "pvt_v2_b5": (partial(architecture, WIDTHS, (3, 6, 40, 3), NARROW), 81956008, 11717260288, 83.8),
}
"""Network (widths, depths, expansions), parameters, MACs, top-1."""

for _name, (_make, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _name, rules))

LINEAR = partial(architecture, WIDTHS, (3, 4, 6, 3), WIDE, True)
add(Entry("pvt_v2_b2_li", LINEAR, 22553512, 3888850944, 224, 82.2, CITE, SOURCE, "pvt_v2_b2_li", rules_pooled))
