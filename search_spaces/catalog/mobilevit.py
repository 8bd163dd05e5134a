"""MobileViT: inverted bottlenecks, and at the end of the last three stages a small transformer between convolutions."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules
from nas.search_spaces.catalog.weights import Rules, split_qkv

CITE = "Mehta and Rastegari 2022 (MobileViT), arXiv:2110.02178, figure 1 and table 5"
SOURCE = "timm 1.0.31 mobilevit.py"
STEM, LAYERS, HEADS = 16, (2, 4, 3), 4


def architecture(widths: tuple[int, ...], inner: tuple[int, ...], ratio: int) -> Architecture:
    """`widths` of the five stages, of the transformers in the last three. Where the first changes the width, it is two."""
    conv = Block((Op.of("mbconv", kernel=3, ratio=ratio),), None)
    nothing = Block((), None, norm="none")
    stages = [Stage(STEM, "none", None, (conv if widths[0] == STEM else nothing,), Op("plain"))]
    if widths[0] != STEM:
        stages.append(Stage(widths[0], "none", Op.of("inverted_bottleneck", ratio=ratio, stride=1), (nothing,), Op("plain")))
    down = Op.of("inverted_bottleneck", ratio=ratio)
    stages.append(Stage(widths[1], "none", down, (conv, conv), Op("plain")))
    for width, own, layers in zip(widths[2:], inner, LAYERS, strict=True):
        block = Block((Op.of("conv_transformer", heads=HEADS, inner=own, layers=layers),), None)
        stages.append(Stage(width, "none", down, (block,), Op("none")))
    stem = Op.of("strided_convs", stride=2, activation="silu", last_activation=True)
    return Architecture(256, stem, tuple(stages), Op("pointwise_pool"))


def rules(widens: bool) -> Rules:
    """From timm's names; `widens`: whether the first stage changes the width."""
    found = modules("", "stem.op.", {"stem.conv": "convs.0", "stem.bn": "norms.0"})
    found += modules("", "head.", {"final_conv.conv": "conv", "final_conv.bn": "conv_norm", "head.fc": "linear"})
    found += _downsample("stages.0.0.", "s1_downsample.op.") if widens else _conv("stages.0.0.", "s0b0_mixer.op.")
    second = 1 + widens
    for stage in range(1, 5):
        found += _downsample(f"stages.{stage}.0.", f"s{stage + second - 1}_downsample.op.")
        if stage > 1:
            found += _transformer(f"stages.{stage}.1.", f"s{stage + second - 1}b0_mixer.op.")
    for block in (1, 2):
        found += _conv(f"stages.1.{block}.", f"s{second}b{block - 1}_mixer.op.")
    return found


def _downsample(theirs: str, ours: str) -> Rules:
    layers = ("conv1_1x1", "conv2_kxk", "conv3_1x1")
    kinds = (("conv", "convs"), ("bn", "norms"))
    return modules(theirs, ours, {f"{layer}.{a}": f"{b}.{i}" for i, layer in enumerate(layers) for a, b in kinds})


def _conv(theirs: str, ours: str) -> Rules:
    layers = {"conv1_1x1": "expand", "conv2_kxk": "depthwise", "conv3_1x1": "reduce"}
    return modules(theirs, ours, {f"{a}.conv": b for a, b in layers.items()}) + modules(
        theirs, ours, {f"{a}.bn": f"{b}_norm" for a, b in layers.items()}
    )


def _transformer(theirs: str, ours: str) -> Rules:
    parts = {
        "conv_kxk.conv": "local", "conv_kxk.bn": "local_norm", "conv_1x1": "enter", "norm": "norm", "conv_proj.conv": "leave",
        "conv_proj.bn": "leave_norm", "conv_fusion.conv": "fuse", "conv_fusion.bn": "fuse_norm",
    }  # fmt: skip
    layer = {
        "norm1": "norm", "attn.proj": "out", "norm2": "mlp_norm", "mlp.fc1": "expand", "mlp.fc2": "reduce",
    }  # fmt: skip
    found = modules(theirs, ours, parts)
    for number in range(max(LAYERS)):
        block, own = f"{theirs}transformer.{number}.", f"{ours}layers.{number}."
        found += modules(block, own, layer)
        found += (split_qkv(re.escape(block) + r"attn\.qkv\.(\w+)", f"nodes.{own}" + r"{}.\1"),)
    return found


SIZES = {
    "mobilevit_xxs": ((16, 24, 48, 64, 80), (64, 80, 96), 2, 1272024, 407364096, 69.0),
    "mobilevit_xs": ((32, 48, 64, 80, 96), (96, 120, 144), 4, 2317848, 1025911808, 74.8),
    "mobilevit_s": ((32, 64, 96, 128, 160), (144, 192, 240), 4, 5578632, 2000831488, 78.4),
}
"""Widths, widths of the transformers, expansion of the bottlenecks, parameters, MACs, top-1."""

for _name, (_widths, _inner, _ratio, _params, _macs, _top1) in SIZES.items():
    _make, _rules = partial(architecture, _widths, _inner, _ratio), partial(rules, _widths[0] != STEM)
    add(Entry(_name, _make, _params, _macs, 256, _top1, CITE, SOURCE, _name, _rules))
