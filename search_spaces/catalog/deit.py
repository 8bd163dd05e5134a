"""DeiT: the plain vision transformer, one stage of global attention over patches and a class token."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Parts, Rule, Rules, rename, split_qkv

if TYPE_CHECKING:
    import re

    from torch import Tensor

CITE = "Touvron et al. 2021 (DeiT), arXiv:2012.12877, table 5; without distillation"
SOURCE = "timm 1.0.31 vision_transformer.py"
DEPTH, HEAD_WIDTH = 12, 64


def architecture(width: int) -> Architecture:
    """`width` channels throughout, in heads of 64."""
    block = Block((Op.of("global_attention", heads=width // HEAD_WIDTH),), Op.of("mlp", expansion=4))
    stage = Stage(width, "layer", None, (block,) * DEPTH, Op("plain"))
    return Architecture(224, Op.of("tokens", stride=16), (stage,), Op("class_token"), stem_norm="none")


def rules() -> Rules:
    """From timm's names."""
    return (
        rename(r"cls_token", "nodes.stem.op.token"),
        Rule(r"pos_embed", split=_positions),
        rename(r"patch_embed\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        split_qkv(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", r"nodes.s0b\1_mixer.op.{}.\2"),
        *block_rules(),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
    )


def block_rules() -> Rules:
    """A transformer block in the first stage, but for its queries, keys and values."""
    block = r"blocks\.(\d+)\."
    return (
        rename(block + r"norm1\.(\w+)", r"nodes.s0b\1_mixer.norm.\2"),
        rename(block + r"norm2\.(\w+)", r"nodes.s0b\1_channel.norm.\2"),
        rename(block + r"attn\.proj\.(\w+)", r"nodes.s0b\1_mixer.op.out.\2"),
        rename(block + r"mlp\.fc1\.(\w+)", r"nodes.s0b\1_channel.op.expand.\2"),
        rename(block + r"mlp\.fc2\.(\w+)", r"nodes.s0b\1_channel.op.reduce.\2"),
    )


def _positions(match: re.Match[str], table: Tensor) -> Parts:
    """The class token's position apart from those of the map."""
    side = round((table.shape[1] - 1) ** 0.5)
    maps = table[0, 1:].unflatten(0, (side, side))
    return {"nodes.stem.op.token_position": table[0, 0], "nodes.stem.op.table": maps}


SIZES = {
    "deit_t": (192, 5717416, 1253683200, 72.2, "deit_tiny_patch16_224"),
    "deit_s": (384, 22050664, 4598882304, 79.9, "deit_small_patch16_224"),
    "deit_b": (768, 86567656, 17563828224, 82.0, "deit_base_patch16_224"),
}
"""Width, parameters, MACs, top-1, timm's name."""

for _name, (_width, _params, _macs, _top1, _timm) in SIZES.items():
    add(Entry(_name, partial(architecture, _width), _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
