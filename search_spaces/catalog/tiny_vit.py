"""TinyViT: inverted bottlenecks, then window attention with a depth-wise convolution between it and the MLP."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import distances, modules, split_by_head
from nas.search_spaces.catalog.weights import Rules, rename

CITE = "Wu et al. 2022 (TinyViT), arXiv:2207.10666, table 10; without distillation"
SOURCE = "timm 1.0.31 tiny_vit.py"
NORM = "layer(eps=1e-05)"
DEPTHS, WINDOWS, HEAD_WIDTH = (2, 2, 6, 2), (0, 7, 14, 7), 32


def architecture(widths: tuple[int, ...]) -> Architecture:
    """`widths` of the four stages; a published block of the last three is four of ours."""
    local = Op.of("mbconv", kernel=3, ratio=4, act="gelu", skip=True)
    stages = [Stage(widths[0], "none", None, (Block((local,), None),) * DEPTHS[0], Op("none"))]
    for width, depth, window in zip(widths[1:], DEPTHS[1:], WINDOWS[1:], strict=True):
        stages.append(Stage(width, NORM, Op("mbconv"), _block(width, window) * depth, Op("plain"), "none"))
    stem = Op.of("strided_convs", stride=4)
    return Architecture(224, stem, tuple(stages), Op("pool_norm"), stem_norm="none")


def _block(width: int, window: int) -> tuple[Block, ...]:
    """Attention; a depth-wise convolution; its batch norm, both without a way around them; an MLP."""
    attention = Op.of("window_attention", heads=width // HEAD_WIDTH, window=window, shift=False, position="symmetric_table")
    conv = Op.of("depthwise_conv", kernel=3, dilation=1, bias=False)
    return (
        Block((attention,), None),
        Block((conv,), None, residual=Op("none"), norm="none"),
        Block((), None, norm="batch"),
        Block((), Op.of("mlp", expansion=4)),
    )


def rules() -> Rules:
    """From timm's names. The fused projection holds queries, keys and values of one head after the other."""
    local, down = r"stages\.0\.blocks\.(\d+)\.conv(\d)\.", r"stages\.(\d)\.downsample\.conv(\d)\."
    names = ("expand", "depthwise", "reduce")
    found: Rules = modules("patch_embed.", "stem.op.", {
        "conv1.conv": "convs.0", "conv1.bn": "norms.0", "conv2.conv": "convs.1", "conv2.bn": "norms.1",
    })  # fmt: skip
    for number, name in enumerate(names):
        first, second = local.replace(r"(\d)", str(number + 1)), down.replace(r"conv(\d)", f"conv{number + 1}")
        found += (
            rename(first + r"conv\.(\w+)", rf"nodes.s0b\1_mixer.op.{name}.\2"),
            rename(first + r"bn\.(\w+)", rf"nodes.s0b\1_mixer.op.{name}_norm.\2"),
            rename(second + r"conv\.(\w+)", rf"nodes.s\1_downsample.op.convs.{number}.\2"),
            rename(second + r"bn\.(\w+)", rf"nodes.s\1_downsample.op.norms.{number}.\2"),
        )
    for stage in (1, 2, 3):
        for block in range(DEPTHS[stage]):
            found += _block_rules(f"stages.{stage}.blocks.{block}.", f"s{stage}b", 4 * block)
    return (
        *found,
        rename(r"head\.norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.fc\.(\w+)", r"nodes.head.linear.\1"),
    )


def _block_rules(theirs: str, ours: str, first: int) -> Rules:
    mixer = f"{ours}{first}_mixer"
    parts = {
        "attn.norm": f"{first}_mixer.norm",
        "attn.proj": f"{first}_mixer.op.out",
        "local_conv.conv": f"{first + 1}_mixer.op.conv",
        "local_conv.bn": f"{first + 2}_norm.norm",
        "mlp.norm": f"{first + 3}_channel.norm",
        "mlp.fc1": f"{first + 3}_channel.op.expand",
        "mlp.fc2": f"{first + 3}_channel.op.reduce",
    }

    letters = tuple(rf"nodes.{mixer}.op.{letter}.\1" for letter in "qkv")
    attention = re.escape(theirs + "attn.")
    return (
        *modules(theirs, ours, parts),
        split_by_head(attention + r"qkv\.(\w+)", letters, (HEAD_WIDTH,) * 3),
        rename(attention + r"attention_biases", f"nodes.{mixer}.op.position.distances", distances),
    )


SIZES = {
    "tiny_vit_5m": ((64, 128, 160, 320), 5392764, 1255174720, 79.2),
    "tiny_vit_11m": ((64, 128, 256, 448), 10996972, 2016046144, 81.5),
    "tiny_vit_21m": ((96, 192, 384, 576), 21198568, 4250329536, 83.3),
}
"""Widths, parameters, MACs, top-1."""

for _name, (_widths, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _widths)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, f"{_name}_224.in1k", rules))
