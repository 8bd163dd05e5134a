"""ConViT: attention that begins as a convolution, and a class token that joins for the last two blocks."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv, split_rows

CITE = "d'Ascoli et al. 2021 (ConViT), arXiv:2103.10697, table 2"
SOURCE = "timm 1.0.31 convit.py"
LOCAL, PLAIN, SIDE = 10, 2, 14


def architecture(heads: int, head_width: int) -> Architecture:
    """Ten blocks of gated attention on the map, behind a table of positions, then two of the tokens with a class token."""
    width, mlp = heads * head_width, Op.of("mlp", expansion=4)
    positions = Block((Op("learned_positions"),), None, residual=Op("none"), norm="none")
    gated = Block((Op.of("global_attention", heads=heads, bias=False, position="gated"),), mlp)
    plain = Block((Op.of("global_attention", heads=heads, bias=False),), mlp)
    stages = (
        Stage(width, "layer", None, (positions, *(gated,) * LOCAL), Op("plain")),
        Stage(width, "layer", Op("class_token"), (plain,) * PLAIN, Op("plain"), "none"),
    )
    return Architecture(224, Op.of("patchify", stride=16), stages, Op("class_token"), stem_norm="none")


def rules() -> Rules:
    """From timm's names."""
    found: Rules = (
        rename(r"cls_token", "nodes.s1_downsample.op.token"),
        rename(r"pos_embed", "nodes.s0b0_mixer.op.table", lambda table: table[0].unflatten(0, (SIDE, SIDE))),
        rename(r"patch_embed\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
    )
    for block in range(LOCAL + PLAIN):
        found += _block(block, f"s0b{block + 1}" if block < LOCAL else f"s1b{block - LOCAL}")
    return (*found, rename(r"norm\.(\w+)", r"nodes.head.norm.\1"), rename(r"head\.(\w+)", r"nodes.head.linear.\1"))


def _block(number: int, ours: str) -> Rules:
    theirs, mixer, channel = rf"blocks\.{number}\.", f"nodes.{ours}_mixer.", f"nodes.{ours}_channel."
    return (
        rename(theirs + r"norm1\.(\w+)", mixer + r"norm.\1"),
        rename(theirs + r"norm2\.(\w+)", channel + r"norm.\1"),
        split_qkv(theirs + r"attn\.qkv\.weight", mixer + "op.{}.weight"),
        split_rows(theirs + r"attn\.qk\.weight", (mixer + "op.q.weight", mixer + "op.k.weight")),
        rename(theirs + r"attn\.v\.weight", mixer + "op.v.weight"),
        rename(theirs + r"attn\.pos_proj\.(\w+)", mixer + r"op.position.place.\1"),
        rename(theirs + r"attn\.gating_param", mixer + "op.position.opening"),
        rename(theirs + r"attn\.proj\.(\w+)", mixer + r"op.out.\1"),
        rename(theirs + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\1"),
        rename(theirs + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\1"),
    )


SIZES = {
    "convit_t": (4, 48, 5710512, 1252360320, 73.1, "convit_tiny"),
    "convit_s": (9, 48, 27777322, 5746563360, 81.4, "convit_small"),
    "convit_b": (16, 48, 86540040, 17505452544, 82.3, "convit_base"),
}
"""Heads, channels of a head, parameters, MACs, top-1, timm's name."""

for _name, (*_how, _params, _macs, _top1, _timm) in SIZES.items():
    add(Entry(_name, partial(architecture, *_how), _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
