"""LeViT: a stem of stride 16, and attention with batch norms that also halves the maps."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import distances, modules, split_by_head
from nas.search_spaces.catalog.weights import Rules, rename

CITE = "Graham et al. 2021 (LeViT), arXiv:2104.01136, tables 2 and 3"
SOURCE = "timm 1.0.31 levit.py"
NOTE = "trained by distillation; the mean of its two classifiers"
MLP = Op.of("mlp", expansion=2, activation="hardswish", bias=False, inner_norm="batch")


def architecture(widths: tuple[int, ...], heads: tuple[int, ...], depths: tuple[int, ...], key_width: int) -> Architecture:
    """The first block of the later stages is the MLP of their downsample."""
    stages: list[Stage] = []
    for width, head, depth in zip(widths, heads, depths, strict=True):
        attention = Op.of(
            "expanded_value_attention", heads=head, key_width=key_width, value_ratio=2, act="hardswish", batch_norm=True
        )
        blocks = (Block((attention,), MLP),) * depth
        if not stages:
            stages.append(Stage(width, "none", None, blocks, Op("plain")))
            continue
        before = stages[-1].width // key_width
        downsample = Op.of("attention", heads=before, key_width=key_width, value_ratio=4)
        stages.append(Stage(width, "none", downsample, (Block((), MLP), *blocks), Op("plain")))
    stem = Op.of("strided_convs", stride=16, activation="hardswish")
    return Architecture(224, stem, tuple(stages), Op.of("two_classifiers", separate=True), head_norm="batch")


def rules(depths: tuple[int, ...], key_width: int) -> Rules:
    """From timm's names."""
    stem = {f"conv{i + 1}.{part}": f"{ours}s.{i}" for i in range(4) for part, ours in (("linear", "conv"), ("bn", "norm"))}
    head = {"head.bn": "norm", "head.linear": "linear", "head_dist.bn": "second_norm", "head_dist.linear": "second"}
    found = modules("stem.", "stem.op.", stem) + modules("", "head.", head)
    for stage, depth in enumerate(depths):
        if stage:
            found += _downsample(f"stages.{stage}.downsample.", f"s{stage}", key_width)
        for block in range(depth):
            ours = f"s{stage}b{block + (stage > 0)}_"
            found += _attention(f"stages.{stage}.blocks.{block}.attn.", f"{ours}mixer.op.", "qkv", key_width, 2)
            found += _mlp(f"stages.{stage}.blocks.{block}.mlp.", f"{ours}channel.op.")
    return found


def _attention(theirs: str, ours: str, letters: str, key_width: int, ratio: int) -> Rules:
    """`letters` of the projections that theirs holds fused, head after head."""
    literal, widths = re.escape(theirs), tuple(key_width * (ratio if letter == "v" else 1) for letter in letters)
    weights = tuple(rf"nodes.{ours}{letter}.\1" for letter in letters)
    norms = tuple(rf"nodes.{ours}{letter}_norm.\1" for letter in letters)
    return (
        *modules(theirs, ours, {"proj.ln.linear": "out", "proj.ln.bn": "out_norm"}),
        split_by_head(literal + letters + r"\.linear\.(\w+)", weights, widths),
        split_by_head(literal + letters + r"\.bn\.(\w+)", norms, widths),
        rename(literal + r"attention_biases", f"nodes.{ours}position.distances", distances),
    )


def _mlp(theirs: str, ours: str) -> Rules:
    names = {"ln1.linear": "expand", "ln1.bn": "expand_norm", "ln2.linear": "reduce", "ln2.bn": "reduce_norm"}
    return modules(theirs, ours, names)


def _downsample(theirs: str, stage: str, key_width: int) -> Rules:
    ours = f"{stage}_downsample.op."
    return (
        *_attention(f"{theirs}attn_downsample.", ours, "kv", key_width, 4),
        *modules(f"{theirs}attn_downsample.q.ln.", ours, {"linear": "q", "bn": "q_norm"}),
        *_mlp(f"{theirs}mlp.", f"{stage}b0_channel.op."),
    )


SIZES = {
    "levit_128s": ((128, 256, 384), (4, 6, 8), (2, 3, 4), 16, 7777058, 304660832, 76.6),
    "levit_128": ((128, 256, 384), (4, 8, 12), (4, 4, 4), 16, 9213936, 405321728, 78.6),
    "levit_192": ((192, 288, 384), (3, 5, 6), (4, 4, 4), 32, 10947069, 657022080, 80.0),
    "levit_256": ((256, 384, 512), (4, 6, 8), (4, 4, 4), 32, 18893876, 1127257344, 81.6),
    "levit_384": ((384, 512, 768), (6, 9, 12), (4, 4, 4), 32, 39128836, 2351786880, 82.6),
}
"""Widths, heads, depths, width of a key, parameters, MACs, top-1."""

for _name, (_widths, _heads, _depths, _key_width, _params, _macs, _top1) in SIZES.items():
    _make, _rules = partial(architecture, _widths, _heads, _depths, _key_width), partial(rules, _depths, _key_width)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _name, _rules, note=NOTE))
