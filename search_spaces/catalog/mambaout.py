"""MambaOut: gated convolutional blocks without a channel mixer, Mamba's blocks without their state space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rule, Rules, rename

if TYPE_CHECKING:
    from torch import Tensor

CITE = "Yu and Wang 2024 (MambaOut), arXiv:2405.07992, table 5"
SOURCE = "timm 1.0.31 mambaout.py"


def architecture(widths: tuple[int, ...], depths: tuple[int, ...]) -> Architecture:
    """Hidden layers of 8/3 of the channels, of which as many as the block has channels are convolved."""
    stages = tuple(
        Stage(
            width,
            "layer",
            Op.of("overlap", end_norm="layer", eps=1e-6) if index else None,
            (Block((Op.of("gated_cnn", kernel=7),), None),) * depth,
            residual=Op("plain"),
            downsample_norm="none",
        )
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True))
    )
    stem = Op.of("strided_convs", stride=4, inner_norm="layer", eps=1e-6)
    return Architecture(224, stem, stages, head=Op.of("mlp_head", activation="gelu"), stem_norm="none")


def rules() -> Rules:
    """From timm's names: its projection holds gate, values and convolved values, ours the convolved ones before the others."""
    block, ours = r"stages\.(\d+)\.blocks\.(\d+)\.", r"nodes.s\1b\2_mixer."
    return (
        rename(r"stem\.conv1\.(\w+)", r"nodes.stem.op.convs.0.\1"),
        rename(r"stem\.norm1\.(\w+)", r"nodes.stem.op.norms.0.\1"),
        rename(r"stem\.conv2\.(\w+)", r"nodes.stem.op.convs.1.\1"),
        rename(r"stem\.norm2\.(\w+)", r"nodes.stem.op.norms.1.\1"),
        rename(r"stages\.(\d+)\.downsample\.(\w+)\.(\w+)", r"nodes.s\1_downsample.op.\2.\3"),
        rename(block + r"norm\.(\w+)", ours + r"norm.\3"),
        Rule(block + r"fc1\.(\w+)", split=_projection),
        rename(block + r"conv\.(\w+)", ours + r"op.conv.\3"),
        rename(block + r"fc2\.weight", ours + r"op.out.weight", lambda weight: _convolved_first(weight, 1)),
        rename(block + r"fc2\.bias", ours + r"op.out.bias"),
        rename(r"head\.norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.pre_logits\.fc\.(\w+)", r"nodes.head.hidden.\1"),
        rename(r"head\.pre_logits\.norm\.(\w+)", r"nodes.head.hidden_norm.\1"),
        rename(r"head\.fc\.(\w+)", r"nodes.head.linear.\1"),
    )


def _projection(match: re.Match[str], tensor: Tensor) -> Mapping[str, Tensor]:
    ours = match.expand(r"nodes.s\1b\2_mixer.op.{}.\3")
    return {ours.format(name): _convolved_first(part, 0) for name, part in zip(("gate", "feed"), tensor.chunk(2), strict=True)}


def _convolved_first(tensor: Tensor, dim: int) -> Tensor:
    """The last 3/8 of the hidden channels, which are convolved, before the others."""
    return tensor.roll(round(tensor.shape[dim] * 3 / 8), dim)


SIZES = {
    "mambaout_femto": ((48, 96, 192, 288), (3, 3, 9, 3), 7304536, 1147984992, 78.9, "mambaout_femto"),
    "mambaout_kobe": ((48, 96, 192, 288), (3, 3, 15, 3), 9141208, 1505865312, 80.0, "mambaout_kobe"),
    "mambaout_t": ((96, 192, 384, 576), (3, 3, 9, 3), 26545096, 4469655744, 82.7, "mambaout_tiny"),
    "mambaout_s": ((96, 192, 384, 576), (3, 4, 27, 3), 48488072, 8936423616, 84.1, "mambaout_small"),
    "mambaout_b": ((128, 256, 512, 768), (3, 4, 27, 3), 84813092, 15794325760, 84.2, "mambaout_base"),
}
"""Widths, depths, parameters, MACs, top-1, timm's name."""

for _name, (_widths, _depths, _params, _macs, _top1, _timm) in SIZES.items():
    add(Entry(_name, partial(architecture, _widths, _depths), _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
