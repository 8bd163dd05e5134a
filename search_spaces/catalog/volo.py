"""VOLO: outlook attention at stride 8, then global attention, and a class token that joins for the last layers."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv, split_rows

CITE = "Yuan et al. 2021 (VOLO), arXiv:2106.13112, table 2"
SOURCE = "timm 1.0.31 volo.py"
NOTE = "trained with token labelling; parameters with the auxiliary classifier of the tokens"
NORM = "layer(eps=1e-05)"
KERNEL = 3


def architecture(
    widths: tuple[int, int], heads: tuple[int, int], depths: tuple[int, ...], expansion: int, stem: int
) -> Architecture:
    """`widths` and `heads` before and behind the one halving of the map; timm's `depths`, of which the last are one stage.

    `stem`: the channels inside the stem.
    """
    outlook = Op.of("outlook_attention", heads=heads[0], kernel=KERNEL, stride=2)
    attention = Op.of("global_attention", heads=heads[1], bias=False)
    mlp = Op.of("mlp", expansion=expansion)
    stages = (
        Stage(widths[0], NORM, None, (Block((outlook,), mlp),) * depths[0], Op("plain")),
        Stage(widths[1], NORM, Op("position_table"), (Block((attention,), mlp),) * sum(depths[1:]), Op("plain"), "none"),
    )
    patch = Op.of("conv_patch", stride=8) if stem == 64 else Op.of("conv_patch", stride=8, inner=stem)
    head = Op.of("class_attention", layers=2, heads=heads[1], expansion=expansion, auxiliary=True)
    return Architecture(224, patch, stages, head, stem_norm="none")


def rules(heads: int, depths: tuple[int, ...]) -> Rules:
    """From timm's names; `heads` of the outlook attention."""
    taps = (heads, *(KERNEL,) * 4)
    scores = r"network\.0\.(\d+)\.attn\.attn\."
    stem = {"conv.0": "convs.0", "conv.1": "norms.0", "conv.3": "convs.1", "conv.4": "norms.1", "conv.6": "convs.2"}
    found = modules("patch_embed.", "stem.op.", {**stem, "conv.7": "norms.2", "proj": "patch"})
    found += (
        rename(r"pos_embed", "nodes.s1_downsample.op.table"),
        rename(r"network\.1\.proj\.(\w+)", r"nodes.s1_downsample.op.conv.\1"),
        rename(r"network\.0\.(\d+)\.attn\.v\.weight", r"nodes.s0b\1_mixer.op.v.weight"),
        rename(scores + "weight", r"nodes.s0b\1_mixer.op.scores", lambda w: w.reshape(*taps, w.shape[1])),
        rename(scores + "bias", r"nodes.s0b\1_mixer.op.scores_bias", lambda b: b.reshape(taps)),
        *_head(),
    )
    names = (
        [f"network.0.{block}" for block in range(depths[0])],
        [f"network.{stage + 2}.{block}" for stage, depth in enumerate(depths[1:]) for block in range(depth)],
    )
    for stage, blocks in enumerate(names):
        for block, theirs in enumerate(blocks):
            found += _block(theirs + ".", f"s{stage}b{block}_")
    return found


def _block(theirs: str, ours: str) -> Rules:
    parts = {
        "attn.proj": "mixer.op.out",
        "norm1": "mixer.norm",
        "norm2": "channel.norm",
        "mlp.fc1": "channel.op.expand",
        "mlp.fc2": "channel.op.reduce",
    }
    return (*modules(theirs, ours, parts), split_qkv(f"{theirs}attn.qkv.weight", f"nodes.{ours}mixer.op.{{}}.weight"))


def _head() -> Rules:
    layer, ours = r"post_network\.(\d+)\.", r"nodes.head.layers.\1."
    return (
        rename(r"cls_token", "nodes.head.token"),
        rename(layer + r"attn\.q\.(\w+)", ours + r"q.\2"),
        split_rows(layer + r"attn\.kv\.(\w+)", (ours + r"k.\2", ours + r"v.\2")),
        rename(layer + r"attn\.proj\.(\w+)", ours + r"out.\2"),
        rename(layer + r"norm1\.(\w+)", ours + r"norm.\2"),
        rename(layer + r"norm2\.(\w+)", ours + r"mlp_norm.\2"),
        rename(layer + r"mlp\.fc1\.(\w+)", ours + r"expand.\2"),
        rename(layer + r"mlp\.fc2\.(\w+)", ours + r"reduce.\2"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
        rename(r"aux_head\.(\w+)", r"nodes.head.auxiliary.\1"),
    )


SIZES = {
    "volo_d1": ((192, 384), (6, 12), (4, 4, 8, 2), 3, 64, 26632040, 6918741504, 84.2),
    "volo_d2": ((256, 512), (8, 16), (6, 4, 10, 4), 3, 64, 58678336, 14305415168, 85.2),
    "volo_d3": ((256, 512), (8, 16), (8, 8, 16, 4), 3, 64, 86325072, 20732057600, 85.4),
    "volo_d4": ((384, 768), (12, 16), (8, 8, 16, 4), 3, 64, 192961520, 44262982656, 85.7),
    "volo_d5": ((384, 768), (12, 16), (12, 12, 20, 4), 4, 128, 295455584, 72301181952, 86.1),
}
"""Widths, heads, depths, expansion of the MLPs, width of the stem, parameters, MACs, top-1."""

for _name, (_widths, _heads, _depths, _expansion, _stem, _params, _macs, _top1) in SIZES.items():
    add(
        Entry(
            _name,
            partial(architecture, _widths, _heads, _depths, _expansion, _stem),
            _params,
            _macs,
            224,
            _top1,
            CITE,
            SOURCE,
            f"{_name}_224",
            partial(rules, _heads[0], _depths),
            note=NOTE,
        )
    )
