"""EfficientFormer: pooling blocks with batch norms, and at the end attention with many value channels."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import distances, modules, split_by_head
from nas.search_spaces.catalog.weights import Rules, drop, rename

CITE = "Li et al. 2022 (EfficientFormer), arXiv:2206.01191, table 1"
SOURCE = "timm 1.0.31 efficientformer.py"
NOTE = "trained by distillation; the mean of its two classifiers"
NORM = "layer(eps=1e-05)"
HEADS, KEY_WIDTH, VALUE_RATIO = 8, 32, 4


def architecture(widths: tuple[int, ...], depths: tuple[int, ...], attending: int) -> Architecture:
    """`attending`: the last blocks of the last stage that have attention and layer norms."""
    attention = Op.of("expanded_value_attention", heads=HEADS, key_width=KEY_WIDTH, value_ratio=VALUE_RATIO)
    pooling = Block((Op.of("pooling", pool=3),), Op.of("mlp", expansion=4, inner_norm="batch"))
    stages = []
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = (pooling,) * depth
        if index == len(widths) - 1:
            transformer = Block((attention,), Op.of("mlp", expansion=4), norm=NORM)
            blocks = (pooling,) * (depth - attending) + (transformer,) * attending
        downsample = Op.of("overlap", end_norm="batch") if index else None
        stages.append(Stage(width, "none", downsample, blocks, Op.of("layer_scale", init=1e-5)))
    stem = Op.of("strided_convs", stride=4, activation="relu", last_activation=True, bias=True)
    return Architecture(224, stem, tuple(stages), Op("two_classifiers"), head_norm=NORM)


def rules(depths: tuple[int, ...], attending: int) -> Rules:
    """From timm's names."""
    stem = {f"{part}{i + 1}": f"{part}s.{i}" for i in range(2) for part in ("conv", "norm")}
    found = modules("stem.", "stem.op.", stem)
    found += modules("", "head.", {"norm": "norm", "head": "linear", "head_dist": "second"})
    last = len(depths) - 1
    for stage, depth in enumerate(depths):
        found += modules(f"stages.{stage}.downsample.", f"s{stage}_downsample.op.", {"conv": "conv", "norm": "norm"})
        for block in range(depth):
            # Where the map becomes a row of tokens, theirs counts the change of shape as a block.
            attends = stage == last and block >= depth - attending
            found += _block(f"stages.{stage}.blocks.{block + attends}.", f"s{stage}b{block}_", attends)
    return found


def _block(theirs: str, ours: str, attends: bool) -> Rules:
    channel, literal = f"{ours}channel.op.", re.escape(theirs)
    found = modules(f"{theirs}mlp.", channel, {"fc1": "expand", "fc2": "reduce"})
    found += (
        rename(literal + r"ls1\.gamma", f"nodes.{ours}mixer.scale"),
        rename(literal + r"ls2\.gamma", f"nodes.{ours}channel.scale"),
    )
    if not attends:
        return found + modules(f"{theirs}mlp.", channel, {"norm1": "expand_norm", "norm2": "reduce_norm"})
    mixer = f"nodes.{ours}mixer.op."
    return (
        *found,
        *modules(theirs, ours, {"norm1": "mixer.norm", "norm2": "channel.norm", "token_mixer.proj": "mixer.op.out"}),
        split_by_head(
            literal + r"token_mixer\.qkv\.(\w+)",
            tuple(rf"{mixer}{letter}.\1" for letter in "qkv"),
            (KEY_WIDTH, KEY_WIDTH, KEY_WIDTH * VALUE_RATIO),
        ),
        rename(literal + r"token_mixer\.attention_biases", f"{mixer}position.distances", distances),
        drop(literal + r"token_mixer\.attention_bias_idxs"),
    )


SIZES = {
    "efficientformer_l1": ((48, 96, 224, 448), (3, 2, 6, 4), 1, 12289928, 1291284736, 79.2),
    "efficientformer_l3": ((64, 128, 320, 512), (4, 4, 12, 6), 4, 31406000, 3906573312, 82.4),
    "efficientformer_l7": ((96, 192, 384, 768), (6, 6, 18, 8), 8, 82229328, 10119325696, 83.3),
}
"""Widths, depths, attention blocks, parameters, MACs, top-1."""

for _name, (_widths, _depths, _attending, _params, _macs, _top1) in SIZES.items():
    _make, _rules = partial(architecture, _widths, _depths, _attending), partial(rules, _depths, _attending)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _name, _rules, note=NOTE))
