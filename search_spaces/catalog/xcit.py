"""XCiT: attention of channels to channels, a pair of depth-wise convolutions, and a class token that joins last."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Parts, Rule, Rules, rename, split_qkv

if TYPE_CHECKING:
    import re

    from torch import Tensor

CITE = "El-Nouby et al. 2021 (XCiT), arXiv:2106.09681, table 1; without distillation"
SOURCE = "timm 1.0.31 xcit.py"
CLASS_LAYERS, WAVES, DEEPEST = 2, 32, 24


def architecture(width: int, depth: int, heads: int, patch: int) -> Architecture:
    """A published block is two of ours; its scales begin at 1 for depth 12, and at 1e-5 for depth 24."""
    init, mlp = 1.0 if depth == 12 else 1e-5, Op.of("mlp", expansion=4)
    positions = Block((Op("fourier_positions"),), None, residual=Op("none"), norm="none")
    block = Block((Op.of("channel_attention", heads=heads),), None), Block((Op.of("depthwise_pair", kernel=3),), mlp)
    stage = Stage(width, "layer", None, (positions, *block * depth), Op.of("layer_scale", init=init))
    scale: dict[str, float | bool] = {"init": init} if init != 1.0 else {}
    if width == 128:
        scale["norm_all"] = False
    head = Op.of("scaled_class_attention", layers=CLASS_LAYERS, heads=heads, expansion=4, **scale)
    return Architecture(224, Op.of("strided_convs", stride=patch), (stage,), head, stem_norm="none")


def rules() -> Rules:
    """From timm's names."""
    found: Rules = (
        *(rename(rf"patch_embed\.proj\.{2 * n}\.0\.(\w+)", rf"nodes.stem.op.convs.{n}.\1") for n in range(4)),
        *(rename(rf"patch_embed\.proj\.{2 * n}\.1\.(\w+)", rf"nodes.stem.op.norms.{n}.\1") for n in range(4)),
        Rule(r"pos_embed\.token_projection\.weight", split=_axes),
        rename(r"pos_embed\.token_projection\.bias", "nodes.s0b0_mixer.op.rows.bias"),
    )
    for block in range(DEEPEST):
        found += _block(rf"blocks\.{block}\.", f"nodes.s0b{2 * block + 1}_mixer.", f"nodes.s0b{2 * block + 2}_")
    return found + _head()


def _axes(match: re.Match[str], weight: Tensor) -> Parts:
    """The waves of the rows and those of the columns."""
    ours, halves = "nodes.s0b0_mixer.op.{}.weight", weight[..., 0, 0].split(WAVES, dim=1)
    return {ours.format(axis): half for axis, half in zip(("rows", "columns"), halves, strict=True)}


def _block(theirs: str, mixer: str, ours: str) -> Rules:
    local, channel = ours + "mixer.", ours + "channel."
    return (
        rename(theirs + "gamma1", mixer + "scale"),
        rename(theirs + "gamma3", local + "scale"),
        rename(theirs + "gamma2", channel + "scale"),
        rename(theirs + r"norm1\.(\w+)", mixer + r"norm.\1"),
        rename(theirs + r"norm3\.(\w+)", local + r"norm.\1"),
        rename(theirs + r"norm2\.(\w+)", channel + r"norm.\1"),
        rename(theirs + r"attn\.temperature", mixer + "op.head_scale"),
        split_qkv(theirs + r"attn\.qkv\.(\w+)", mixer + r"op.{}.\1"),
        rename(theirs + r"attn\.proj\.(\w+)", mixer + r"op.out.\1"),
        rename(theirs + r"local_mp\.conv1\.(\w+)", local + r"op.first.\1"),
        rename(theirs + r"local_mp\.bn\.(\w+)", local + r"op.norm.\1"),
        rename(theirs + r"local_mp\.conv2\.(\w+)", local + r"op.last.\1"),
        rename(theirs + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\1"),
        rename(theirs + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\1"),
    )


def _head() -> Rules:
    layer, ours = r"cls_attn_blocks\.(\d+)\.", r"nodes.head.layers.\1."
    return (
        rename(r"cls_token", "nodes.head.token"),
        rename(layer + "gamma1", ours + "scale"),
        rename(layer + "gamma2", ours + "mlp_scale"),
        rename(layer + r"norm1\.(\w+)", ours + r"norm.\2"),
        rename(layer + r"norm2\.(\w+)", ours + r"mlp_norm.\2"),
        rename(layer + r"attn\.([qkv])\.(\w+)", ours + r"\2.\3"),
        rename(layer + r"attn\.proj\.(\w+)", ours + r"out.\2"),
        rename(layer + r"mlp\.fc1\.(\w+)", ours + r"expand.\2"),
        rename(layer + r"mlp\.fc2\.(\w+)", ours + r"reduce.\2"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.(\w+)", r"nodes.head.linear.\1"),
    )


SIZES = {
    "xcit_n12_p16": (partial(architecture, 128, 12, 4, 16), 3053224, 549461504, 70.0, "xcit_nano_12_p16_224"),
    "xcit_n12_p8": (partial(architecture, 128, 12, 4, 8), 3049016, 2127410688, 73.9, "xcit_nano_12_p8_224"),
    "xcit_t12_p16": (partial(architecture, 192, 12, 4, 16), 6716272, 1227902208, 77.1, "xcit_tiny_12_p16_224"),
    "xcit_t12_p8": (partial(architecture, 192, 12, 4, 8), 6706504, 4761719040, 79.7, "xcit_tiny_12_p8_224"),
    "xcit_t24_p16": (partial(architecture, 192, 24, 4, 16), 12116896, 2319832320, 79.5, "xcit_tiny_24_p16_224"),
    "xcit_t24_p8": (partial(architecture, 192, 24, 4, 8), 12107128, 9129439488, 81.9, "xcit_tiny_24_p8_224"),
    "xcit_s12_p16": (partial(architecture, 384, 12, 8, 16), 26253304, 4791360000, 82.0, "xcit_small_12_p16_224"),
    "xcit_s12_p8": (partial(architecture, 384, 12, 8, 8), 26213032, 18600239616, 83.4, "xcit_small_12_p8_224"),
    "xcit_s24_p16": (partial(architecture, 384, 24, 8, 16), 47671384, 9056119296, 82.6, "xcit_small_24_p16_224"),
    "xcit_s24_p8": (partial(architecture, 384, 24, 8, 8), 47631112, 35659276800, 83.9, "xcit_small_24_p8_224"),
    "xcit_m24_p16": (partial(architecture, 512, 24, 8, 16), 84395752, 16077633536, 82.6, "xcit_medium_24_p16_224"),
    "xcit_m24_p8": (partial(architecture, 512, 24, 8, 8), 84323624, 63321004032, 83.7, "xcit_medium_24_p8_224"),
    "xcit_l24_p16": (partial(architecture, 768, 24, 16, 16), 189096136, 35778057216, 82.9, "xcit_large_24_p16_224"),
    "xcit_l24_p8": (partial(architecture, 768, 24, 16, 8), 188932648, 140920144896, 84.4, "xcit_large_24_p8_224"),
}
"""Network (width, depth, heads, patch), parameters, MACs, top-1, timm's name."""

for _name, (_make, _params, _macs, _top1, _timm) in SIZES.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
