"""TNT: a row of patches behind a class token, each of which carries the pixels it is made of through all blocks."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules
from nas.search_spaces.catalog.weights import Parts, Rule, Rules, rename, split_rows

if TYPE_CHECKING:
    from torch import Tensor

CITE = "Han et al. 2021 (TNT), arXiv:2103.00112, table 1"
SOURCE = "timm 1.0.31 tnt.py"
DEPTH, PIXELS, INNER_HEADS = 12, 4, 4


def architecture(width: int, heads: int, legacy: bool) -> Architecture:
    """`width` channels of a patch, and as many of its 4 x 4 pixels; `legacy`: timm's first form of the norms and the stem."""
    newer = {} if legacy else {"joint_norm": True}
    mixer = Op.of("nested_transformer", pixels=PIXELS, heads=heads, inner_heads=INNER_HEADS, class_token=True, **newer)
    stage = Stage(2 * width, "none", None, (Block((mixer,), None),) * DEPTH, Op("none"))
    stem = Op.of("nested_tokens", stride=16, pixels=PIXELS, **({} if legacy else {"apart": True}))
    return Architecture(224, stem, (stage,), Op.of("class_token", half=True), head_norm="layer(eps=1e-05)")


def rules(legacy: bool) -> Rules:
    """From timm's names."""
    found = modules("", "stem.op.", {"pixel_embed.proj": "conv", "norm2_proj": "norm2"})
    found += modules("", "head.", {"norm": "norm", "head": "linear"})
    found += (
        rename(r"cls_token", "nodes.stem.op.token"),
        Rule(r"patch_pos", split=_positions),
        rename(r"pixel_pos", "nodes.stem.op.pixel_table", lambda table: table[0].permute(1, 2, 0)),
        rename(r"norm1_proj\.(\w+)", r"nodes.stem.op.norm1.\1", _by_pixel),
        rename(r"proj\.weight", "nodes.stem.op.project.weight", _as_convolution),
        rename(r"proj\.bias", "nodes.stem.op.project.bias"),
    )
    for number in range(DEPTH):
        found += _block(f"blocks.{number}.", f"s0b{number}_mixer.op.", legacy)
    return found


def _block(theirs: str, ours: str, legacy: bool) -> Rules:
    name, to = re.escape(theirs), f"nodes.{ours}"
    found: Rules = (
        rename(name + r"proj\.weight", to + "project.weight", _as_convolution),
        rename(name + r"proj\.bias", to + "project.bias"),
        rename(name + r"norm2_proj\.(\w+)", to + r"after_norm.\1"),
        rename(name + r"norm1_proj\.(\w+)", to + r"project_norm.\1")
        if legacy
        else rename(name + r"norm1_proj\.(\w+)", to + r"joint_norm.\1", _by_pixel),
    )
    for suffix, layer in (("_in", "inner."), ("_out", "outer.")):
        mlp = "_in" if suffix == "_in" else ""
        names = {
            f"norm{suffix}": "norm", f"attn{suffix}.v": "v", f"attn{suffix}.proj": "out", f"norm_mlp{mlp}": "mlp_norm",
            f"mlp{mlp}.fc1": "expand", f"mlp{mlp}.fc2": "reduce",
        }  # fmt: skip
        found += modules(theirs, ours + layer, names)
        found += (split_rows(name + rf"attn{suffix}\.qk\.(\w+)", (to + layer + r"q.\1", to + layer + r"k.\1")),)
    return found


def _by_pixel(vector: Tensor) -> Tensor:
    return vector.unflatten(0, (PIXELS, PIXELS, -1))


def _as_convolution(weight: Tensor) -> Tensor:
    return weight.unflatten(1, (PIXELS, PIXELS, -1)).permute(0, 3, 1, 2)


def _positions(match: re.Match[str], table: Tensor) -> Parts:
    """The class token's position apart from those of the map."""
    side = round((table.shape[1] - 1) ** 0.5)
    maps = table[0, 1:].unflatten(0, (side, side))
    return {"nodes.stem.op.token_position": table[0, 0], "nodes.stem.op.table": maps}


SIZES = {
    "tnt_s": (384, 6, False, 23768584, 5216875008, 81.5, "tnt_s_patch16_224", ""),
    "tnt_s_legacy": (384, 6, True, 23755336, 5216875008, 81.5, "tnt_s_legacy_patch16_224", ""),
    "tnt_b": (640, 10, False, 65428680, 14049082880, 82.9, "tnt_b_patch16_224", ""),
}
"""Width of a patch, heads, first form, parameters, MACs, top-1, timm's name, note."""

for _name, (_width, _heads, _legacy, _params, _macs, _top1, _timm, _note) in SIZES.items():
    _make, _rules = partial(architecture, _width, _heads, _legacy), partial(rules, _legacy)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, _rules, note=_note))
