"""Twins: PVT with positions from a convolution (PCPVT), and windows and reduced maps in turn (SVT)."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.pvt import attention, attention_rules
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv

CITE = "Chu et al. 2021 (Twins), arXiv:2104.13840, table 2"
SOURCE = "timm 1.0.31 twins.py"
REDUCTIONS, WINDOW, DEEPEST = (8, 4, 2, 1), 7, 27
POSITIONS = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None, norm="none")
"""Added to the stream behind the first block of each stage."""


def architecture(
    widths: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...], expansions: tuple[int, ...], windows: bool
) -> Architecture:
    """`widths`, `depths`, `heads` and `expansions` of each stage; `windows` in every second block from the first (SVT)."""
    stages = []
    for index, (width, depth, count) in enumerate(zip(widths, depths, heads, strict=True)):
        mlp = Op.of("mlp", expansion=expansions[index])
        window = Op.of("window_attention", heads=count, window=WINDOW, shift=False, position="none")
        coarse = attention(count, REDUCTIONS[index])
        first, *rest = (Block((coarse if block % 2 or not windows else window,), mlp) for block in range(depth))
        down = Op.of("conv", end_norm="layer") if index else None
        stages.append(Stage(width, "layer", down, (first, POSITIONS, *rest), Op("plain"), "none"))
    return Architecture(224, Op.of("patchify", stride=4, end_norm="layer"), tuple(stages), stem_norm="none")


def rules() -> Rules:
    """From timm's names."""
    found: Rules = (
        rename(r"patch_embeds\.0\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"patch_embeds\.0\.norm\.(\w+)", r"nodes.stem.op.norm.\1"),
        rename(r"patch_embeds\.(\d+)\.proj\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(r"patch_embeds\.(\d+)\.norm\.(\w+)", r"nodes.s\1_downsample.op.norm.\2"),
        rename(r"pos_block\.(\d+)\.proj\.0\.(\w+)", r"nodes.s\1b1_mixer.op.conv.\2"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
    )
    for block in range(DEEPEST):
        found += _block(rf"blocks\.(\d+)\.({block})\.", rf"nodes.s\1b{block + bool(block)}_")
    return found


def _block(theirs: str, ours: str) -> Rules:
    mixer, channel = ours + "mixer.", ours + "channel."
    return (
        rename(theirs + r"norm1\.(\w+)", mixer + r"norm.\3"),
        rename(theirs + r"norm2\.(\w+)", channel + r"norm.\3"),
        split_qkv(theirs + r"attn\.qkv\.(\w+)", mixer + r"op.{}.\3"),
        *attention_rules(theirs, mixer),
        rename(theirs + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\3"),
        rename(theirs + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\3"),
    )


PCPVT = partial(architecture, (64, 128, 320, 512), heads=(1, 2, 5, 8), expansions=(8, 8, 4, 4), windows=False)


def svt(width: int, depths: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one, in heads of 32."""
    widths = tuple(width << index for index in range(4))
    return architecture(widths, depths, tuple(each // 32 for each in widths), (4, 4, 4, 4), True)


SIZES = {
    "twins_pcpvt_s": (partial(PCPVT, depths=(3, 4, 6, 3)), 24106216, 3809459968, 81.1, "twins_pcpvt_small"),
    "twins_pcpvt_b": (partial(PCPVT, depths=(3, 4, 18, 3)), 43828456, 6652933888, 82.7, "twins_pcpvt_base"),
    "twins_pcpvt_l": (partial(PCPVT, depths=(3, 8, 27, 3)), 60989672, 9807524096, 83.2, "twins_pcpvt_large"),
    "twins_svt_s": (partial(svt, 64, (2, 2, 10, 4)), 24060776, 2927353344, 81.7, "twins_svt_small"),
    "twins_svt_b": (partial(svt, 96, (2, 2, 18, 2)), 56070952, 8562612480, 83.1, "twins_svt_base"),
    "twins_svt_l": (partial(svt, 128, (2, 2, 18, 2)), 99271400, 15111777280, 83.7, "twins_svt_large"),
}
"""Network, parameters, MACs, top-1, timm's name."""

for _name, (_make, _params, _macs, _top1, _timm) in SIZES.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
