"""FocalNet: focal modulation in the place of window attention; `srf` has two levels of context, `lrf` three."""

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

CITE = "Yang et al. 2022 (FocalNet), arXiv:2203.11926, table 1"
SOURCE = "timm 1.0.31 focalnet.py"


def architecture(width: int, depths: tuple[int, ...], levels: int) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one."""
    block = Block((Op.of("focal_modulation", levels=levels, kernel=3),), Op.of("mlp", expansion=4))
    stages = tuple(
        Stage(
            width << index,
            "layer(eps=1e-05)",
            Op.of("conv", end_norm="layer") if index else None,
            (block,) * depth,
            residual=Op("plain"),
            downsample_norm="none",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("patchify", stride=4), stages)


def rules() -> Rules:
    """From timm's names: one projection there makes query, context and gates."""
    block = r"layers\.(\d+)\.blocks\.(\d+)\."
    mixer, channel = r"nodes.s\1b\2_mixer.", r"nodes.s\1b\2_channel."
    return (
        rename(r"stem\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"stem\.norm\.(\w+)", r"nodes.stem.norm.\1"),
        rename(r"layers\.(\d+)\.downsample\.proj\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(r"layers\.(\d+)\.downsample\.norm\.(\w+)", r"nodes.s\1_downsample.op.norm.\2"),
        rename(block + r"norm1\.(\w+)", mixer + r"norm.\3"),
        rename(block + r"norm2\.(\w+)", channel + r"norm.\3"),
        Rule(block + r"modulation\.f\.(\w+)", split=_projection),
        rename(block + r"modulation\.h\.(\w+)", mixer + r"op.mix.\3"),
        rename(block + r"modulation\.proj\.(\w+)", mixer + r"op.out.\3"),
        rename(block + r"modulation\.focal_layers\.(\d+)\.0\.weight", mixer + r"op.levels.\3.weight"),
        rename(block + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\3"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.fc\.(\w+)", r"nodes.head.linear.\1"),
    )


def _projection(match: re.Match[str], tensor: Tensor) -> Mapping[str, Tensor]:
    """Query and context have as many rows as there are channels, a multiple of 32, gates the few that are left."""
    width = tensor.shape[0] // 64 * 32
    ours = match.expand(r"nodes.s\1b\2_mixer.op.{}.\3")
    parts = tensor.split([width, width, tensor.shape[0] - 2 * width])
    return {ours.format(name): part for name, part in zip(("query", "context", "gates"), parts, strict=True)}


SIZES = {
    "focalnet_t_srf": (96, (2, 2, 6, 2), 2, 28427116, 4403335680, 82.1, "focalnet_tiny_srf"),
    "focalnet_t_lrf": (96, (2, 2, 6, 2), 3, 28647928, 4474836480, 82.2, "focalnet_tiny_lrf"),
    "focalnet_s_srf": (96, (2, 2, 18, 2), 2, 49891216, 8598551040, 83.4, "focalnet_small_srf"),
    "focalnet_s_lrf": (96, (2, 2, 18, 2), 3, 50342440, 8715210240, 83.5, "focalnet_small_lrf"),
    "focalnet_b_srf": (128, (2, 2, 18, 2), 2, 88148144, 15241181184, 83.8, "focalnet_base_srf"),
    "focalnet_b_lrf": (128, (2, 2, 18, 2), 3, 88749768, 15396726784, 83.8, "focalnet_base_lrf"),
}
"""Width, depths, levels, parameters, MACs, top-1, timm's name."""

for _name, (_width, _depths, _levels, _params, _macs, _top1, _timm) in SIZES.items():
    _make = partial(architecture, _width, _depths, _levels)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
