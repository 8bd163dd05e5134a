"""ConvNeXt and ConvNeXt V2: blocks of one depth-wise convolution and an MLP inside one residual."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename

CITE = "Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, section 2"
CITE_V2 = "Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808, section 3; fine-tuned after masked autoencoding on ImageNet-1k"
SOURCE = "timm 1.0.31 convnext.py"


def architecture(width: int, depths: tuple[int, ...], response: bool = False) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one; `response` for V2."""
    mixer = Op.of("convnext_conv", kernel=7, expansion=4, **({"response": True} if response else {}))
    stages = tuple(
        Stage(
            width << index,
            "none",
            Op("conv") if index else None,
            (Block((mixer,), None),) * depth,
            residual=Op("plain") if response else Op.of("layer_scale", init=1e-6),
            downsample_norm="layer",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("patchify", stride=4), stages, head=Op("pool_norm"), stem_norm="layer", head_norm="layer")


def rules() -> Rules:
    """From timm's names."""
    block = r"stages\.(\d+)\.blocks\.(\d+)\."
    return (
        rename(r"stem\.0\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"stem\.1\.(\w+)", r"nodes.stem.norm.\1"),
        rename(r"stages\.(\d+)\.downsample\.0\.(\w+)", r"nodes.s\1_downsample.norm.\2"),
        rename(r"stages\.(\d+)\.downsample\.1\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(block + r"conv_dw\.(\w+)", r"nodes.s\1b\2_mixer.op.conv.\3"),
        rename(block + r"norm\.(\w+)", r"nodes.s\1b\2_mixer.op.tail.norm.\3"),
        rename(block + r"mlp\.fc1\.(\w+)", r"nodes.s\1b\2_mixer.op.tail.expand.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", r"nodes.s\1b\2_mixer.op.tail.reduce.\3"),
        rename(block + r"mlp\.grn\.(\w+)", r"nodes.s\1b\2_mixer.op.tail.response.\3"),
        rename(block + r"gamma", r"nodes.s\1b\2_mixer.scale"),
        rename(r"head\.norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.fc\.(\w+)", r"nodes.head.linear.\1"),
    )


SMALL = (2, 2, 6, 2)
SIZES = {
    "convnext_atto": (40, SMALL, False, 3695520, 547332480, 75.7, "convnext_atto"),
    "convnext_femto": (48, SMALL, False, 5217784, 779629824, 77.5, "convnext_femto"),
    "convnext_pico": (64, SMALL, False, 9045672, 1367055360, 79.5, "convnext_pico"),
    "convnext_nano": (80, (2, 2, 8, 2), False, 15593560, 2445528320, 80.8, "convnext_nano"),
    "convnext_t": (96, (3, 3, 9, 3), False, 28589128, 4455531264, 82.1, "convnext_tiny"),
    "convnext_s": (96, (3, 3, 27, 3), False, 50223688, 8683712256, 83.1, "convnext_small"),
    "convnext_b": (128, (3, 3, 27, 3), False, 88591464, 15354729472, 83.8, "convnext_base"),
    "convnext_l": (192, (3, 3, 27, 3), False, 197767336, 34361433600, 84.3, "convnext_large"),
    "convnextv2_atto": (40, SMALL, True, 3708400, 547332480, 76.6, "convnextv2_atto"),
    "convnextv2_femto": (48, SMALL, True, 5233240, 779629824, 78.5, "convnextv2_femto"),
    "convnextv2_pico": (64, SMALL, True, 9066280, 1367055360, 80.3, "convnextv2_pico"),
    "convnextv2_nano": (80, (2, 2, 8, 2), True, 15623800, 2445528320, 81.9, "convnextv2_nano"),
    "convnextv2_t": (96, (3, 3, 9, 3), True, 28635496, 4455531264, 82.9, "convnextv2_tiny"),
    "convnextv2_b": (128, (3, 3, 27, 3), True, 88717800, 15354729472, 84.9, "convnextv2_base"),
    "convnextv2_l": (192, (3, 3, 27, 3), True, 197956840, 34361433600, 85.8, "convnextv2_large"),
}
"""Width, depths, V2, parameters, MACs, top-1, timm's name."""

for _name, (_width, _depths, _second, _params, _macs, _top1, _timm) in SIZES.items():
    _make = partial(architecture, _width, _depths, _second)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE_V2 if _second else CITE, SOURCE, _timm, rules))
