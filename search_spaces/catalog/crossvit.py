"""CrossViT: two vision transformers side by side, over small and large patches, that exchange their class tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Parts, Rule, Rules, rename, split_qkv

if TYPE_CHECKING:
    import re

    from torch import Tensor

CITE = "Chen et al. 2021 (CrossViT), arXiv:2103.14899, tables 1 and 2"
SOURCE = "timm 1.0.31 crossvit.py"
BLOCKS, PATCH = 3, 12
BRANCHES = ("small", "large")


def architecture(width: int, heads: int, layers: int, expansion: int) -> Architecture:
    """`width` channels in the branch of the small patches, twice as many in the other."""
    settings = {"layers": layers, "expansion": expansion}
    changed = {name: value for name, value in settings.items() if value != 4}
    trunk = Op.of("two_branch_trunk", patch=PATCH, heads=heads, blocks=BLOCKS, **changed)
    stage = Stage(3 * width, "none", None, (Block((), None, norm="none"),), Op("plain"))
    return Architecture(240, trunk, (stage,), Op("two_branch_classifiers"), head_norm="layer")


def rules() -> Rules:
    """From timm's names."""
    found: Rules = ()
    for number, branch in enumerate(BRANCHES):
        own, other = f"nodes.stem.op.{branch}", f"to_{BRANCHES[1 - number]}"
        blocks = rf"blocks\.(\d+)\.blocks\.{number}\.(\d+)\."
        layer = r"nodes.stem.op.blocks.\1." + ("large." + r"\2." if number else "small.")
        found += (
            rename(rf"cls_token_{number}", f"{own}.token"),
            Rule(rf"pos_embed_{number}", split=partial(_positions, own)),
            rename(rf"patch_embed\.{number}\.proj\.(\w+)", own + r".conv.\1"),
            split_qkv(blocks + r"attn\.qkv\.(\w+)", layer + r"{}.\3"),
            *(rename(blocks + theirs + r"\.(\w+)", layer + ours + r".\3") for theirs, ours in LAYER.items()),
            *(
                rename(rf"blocks\.(\d+)\.{theirs.format(number)}\.(\w+)", rf"nodes.stem.op.blocks.\1.{other}.{ours}.\2")
                for theirs, ours in VISIT.items()
            ),
            rename(rf"norm\.{number}\.(\w+)", "nodes.head." + ("second_norm" if number else "norm") + r".\1"),
            rename(rf"head\.{number}\.(\w+)", "nodes.head." + ("second" if number else "linear") + r".\1"),
        )
    return found


LAYER = {
    "norm1": "norm", "norm2": "mlp_norm", r"attn\.proj": "out", r"mlp\.fc1": "expand", r"mlp\.fc2": "reduce",
}  # fmt: skip
VISIT = {
    r"projs\.{}\.0": "enter_norm", r"projs\.{}\.2": "enter", r"fusion\.{}\.norm1": "norm", r"fusion\.{}\.attn\.wq": "q",
    r"fusion\.{}\.attn\.wk": "k", r"fusion\.{}\.attn\.wv": "v", r"fusion\.{}\.attn\.proj": "out",
    r"revert_projs\.{}\.0": "leave_norm", r"revert_projs\.{}\.2": "leave",
}  # fmt: skip


def _positions(branch: str, match: re.Match[str], table: Tensor) -> Parts:
    """The class token's position apart from those of the map."""
    side = round((table.shape[1] - 1) ** 0.5)
    maps = table[0, 1:].unflatten(0, (side, side))
    return {f"{branch}.token_position": table[0, 0], f"{branch}.table": maps}


SIZES = {
    "crossvit_t": (96, 3, 4, 4, 7014800, 1562734080, 73.4, "crossvit_tiny_240"),
    "crossvit_s": (192, 6, 4, 4, 26856272, 5615557632, 81.0, "crossvit_small_240"),
    "crossvit_b": (384, 12, 4, 4, 105025232, 21191473152, 82.2, "crossvit_base_240"),
    "crossvit_9": (128, 4, 3, 3, 8553296, 1840796160, 73.9, "crossvit_9_240"),
    "crossvit_15": (192, 6, 5, 3, 27528464, 5790571776, 81.5, "crossvit_15_240"),
    "crossvit_18": (224, 7, 6, 3, 43271408, 9031158528, 82.5, "crossvit_18_240"),
}
"""Width of the small branch, heads, layers of the large branch a block, expansion, parameters, MACs, top-1, timm's name."""

for _name, (_width, _heads, _layers, _expansion, _params, _macs, _top1, _timm) in SIZES.items():
    _make = partial(architecture, _width, _heads, _layers, _expansion)
    add(Entry(_name, _make, _params, _macs, 240, _top1, CITE, SOURCE, _timm, rules))
