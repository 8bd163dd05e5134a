"""Next-ViT: grouped convolutions, and at the end of each pattern attention whose result is widened by one of them."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules
from nas.search_spaces.catalog.weights import Rules

CITE = "Li et al. 2022 (Next-ViT), arXiv:2207.05501, tables 3-4"
SOURCE = "timm 1.0.31 nextvit.py"
HEAD_WIDTH = 32
SHRINK = Op.of("average", bias=False, end_norm="batch")
PROJECT = Op.of("keep", bias=False, end_norm="batch")


def architecture(patterns: int) -> Architecture:
    """`patterns` of four convolution blocks and an attention block in the third stage.

    A published stage is several of ours on one map, for its attention block is narrower than its MLP and the blocks behind it.
    """
    third = [stage for index in range(patterns) for stage in _pattern(384, 512, 4, 2, PROJECT if index else SHRINK)]
    stages = (
        Stage(96, "batch", None, _convolutions(96) * 3, Op("plain")),
        *_pattern(192, 256, 3, 4, SHRINK),
        *third,
        *_pattern(768, 1024, 2, 1, SHRINK),
    )
    return Architecture(224, Op.of("deep_conv", stride=4, inner=64), stages, stem_norm="none")


def _pattern(width: int, wide: int, blocks: int, reduction: int, downsample: Op) -> tuple[Stage, Stage]:
    """Convolution blocks, the attention, and at the greater width the MLP of its block."""
    heads = width // HEAD_WIDTH
    attention = (
        Op.of("global_attention", heads=heads)
        if reduction == 1
        else Op.of("sequence_pooled_attention", heads=heads, reduction=reduction)
    )
    narrow = _convolutions(width) * blocks + (Block((attention,), None),)
    mlp = Block((), Op.of("mlp", expansion=2, activation="relu"))
    return (
        Stage(width, "batch", downsample, narrow, Op("plain"), "none"),
        Stage(wide, "batch", Op("widen"), (mlp,), Op("plain"), "none"),
    )


def _convolutions(width: int) -> tuple[Block, Block]:
    """A published convolution block: without a norm before the convolution, with one before the MLP."""
    return (
        Block((Op.of("grouped_conv", head_width=HEAD_WIDTH),), None, norm="none"),
        Block((), Op.of("mlp", expansion=3, activation="relu")),
    )


CONV = {"group_conv3x3": "conv", "norm": "norm", "projection": "project"}
MLP = {"mlp.fc1": "op.expand", "mlp.fc2": "op.reduce"}


def rules(patterns: int) -> Rules:
    """From timm's names."""
    stem = {f"{i}.{part}": f"{part}s.{i}" for i in range(4) for part in ("conv", "norm")}
    found = modules("stem.", "stem.op.", stem) + modules("", "head.", {"norm": "norm", "head.fc": "linear"})
    found += modules("stages.0.blocks.0.patch_embed.", "stem.op.", {"conv": "project", "norm": "norm"})
    for block in range(3):
        found += _conv_rules(f"stages.0.blocks.{block}.", f"s0b{2 * block}", f"s0b{2 * block + 1}")
    plan = [(1, 0, 3), *((2, 5 * index, 4) for index in range(patterns)), (3, 0, 2)]
    for index, (stage, first, blocks) in enumerate(plan):
        found += _pattern_rules(f"stages.{stage}.blocks.", first, blocks, 2 * index + 1)
    return found


def _conv_rules(theirs: str, mixer: str, channel: str) -> Rules:
    return (
        *modules(f"{theirs}mhca.", f"{mixer}_mixer.op.", CONV),
        *modules(theirs, f"{channel}_channel.", {"norm": "norm", **MLP}),
    )


def _pattern_rules(theirs: str, first: int, blocks: int, stage: int) -> Rules:
    found = modules(f"{theirs}{first}.patch_embed.", f"s{stage}_downsample.op.", {"conv": "linear", "norm": "norm"})
    for block in range(blocks):
        found += _conv_rules(f"{theirs}{first + block}.", f"s{stage}b{2 * block}", f"s{stage}b{2 * block + 1}")
    last, mixer, widen = f"{theirs}{first + blocks}.", f"s{stage}b{2 * blocks}_mixer.", f"s{stage + 1}_downsample.op."
    attention = {letter: f"op.{letter}" for letter in "qkv"}
    found += modules(f"{last}e_mhsa.", mixer, {**attention, "proj": "op.out", "norm": "op.pool_norm"})
    found += modules(last, mixer, {"norm1": "norm"})
    found += modules(f"{last}projection.", widen, {"conv": "linear", "norm": "norm"})
    found += modules(f"{last}mhca.", f"{widen}mix.", CONV)
    return found + modules(last, f"s{stage + 1}b0_channel.", {"norm2": "norm", **MLP})


SIZES = {
    "nextvit_s": (2, 31763368, 5794420224, 82.5, "nextvit_small"),
    "nextvit_b": (4, 44818856, 8273817088, 83.2, "nextvit_base"),
    "nextvit_l": (6, 57874344, 10753213952, 83.6, "nextvit_large"),
}
"""Patterns in the third stage, parameters, MACs, top-1, timm's name."""

for _name, (_patterns, _params, _macs, _top1, _timm) in SIZES.items():
    _make, _rules = partial(architecture, _patterns), partial(rules, _patterns)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, _rules))
