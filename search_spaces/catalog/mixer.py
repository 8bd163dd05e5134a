"""MLP-Mixer: one stage of perceptrons over the positions and perceptrons over the channels."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename

CITE = "Tolstikhin et al. 2021 (MLP-Mixer), arXiv:2105.01601, tables 1 and 2; trained on ImageNet-1k alone"
SOURCE = "timm 1.0.31 mlp_mixer.py"
PATCH, SIDE = 16, 14


def architecture(width: int, depth: int) -> Architecture:
    """Half as many hidden tokens as channels, four times as many hidden channels."""
    block = Block((Op.of("mixer_mlp", tokens=width // 2),), Op.of("mlp", expansion=4))
    stage = Stage(width, "layer", None, (block,) * depth, Op("plain"))
    return Architecture(224, Op.of("patchify", stride=PATCH), (stage,), stem_norm="none")


def rules() -> Rules:
    """From timm's names."""
    block, mixer, channel = r"blocks\.(\d+)\.", r"nodes.s0b\1_mixer.", r"nodes.s0b\1_channel."
    return (
        rename(r"stem\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(block + r"norm1\.(\w+)", mixer + r"norm.\2"),
        rename(block + r"norm2\.(\w+)", channel + r"norm.\2"),
        rename(block + r"mlp_tokens\.fc1\.weight", mixer + "op.gather", lambda w: w.unflatten(1, (SIDE, SIDE))),
        rename(block + r"mlp_tokens\.fc1\.bias", mixer + "op.gather_bias"),
        rename(block + r"mlp_tokens\.fc2\.weight", mixer + "op.scatter", lambda w: w.unflatten(0, (SIDE, SIDE))),
        rename(block + r"mlp_tokens\.fc2\.bias", mixer + "op.scatter_bias", lambda b: b.unflatten(0, (SIDE, SIDE))),
        rename(block + r"mlp_channels\.fc1\.(\w+)", channel + r"op.expand.\2"),
        rename(block + r"mlp_channels\.fc2\.(\w+)", channel + r"op.reduce.\2"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
    )


SIZES = {
    "mixer_s16": (512, 8, 18528264, 3776958464, None),
    "mixer_b16": (768, 12, 59880472, 12601767936, 76.4),
    "mixer_l16": (1024, 24, 208196168, 44547678208, 71.8),
}
"""Width, depth, parameters, MACs, top-1."""

for _name, (_width, _depth, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _width, _depth)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, f"{_name}_224", rules))
