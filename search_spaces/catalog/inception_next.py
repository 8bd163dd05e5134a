"""InceptionNeXt: ConvNeXt blocks whose depth-wise convolution is split in a square, two bands and an identity."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename

CITE = "Yu et al. 2024 (InceptionNeXt), arXiv:2303.16900, table 3"
SOURCE = "timm 1.0.31 inception_next.py"
EXPANSIONS = (4, 4, 4, 3)


def architecture(width: int, depths: tuple[int, ...], band: int = 11, divisor: int = 8) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one, and three quarters of the MLP in the last."""
    stages = tuple(
        Stage(
            width << index,
            "none",
            Op("conv") if index else None,
            (Block((Op.of("inception_conv", band=band, divisor=divisor, expansion=expansion),), None),) * depth,
            residual=Op.of("layer_scale", init=1e-6),
            downsample_norm="batch",
        )
        for index, (depth, expansion) in enumerate(zip(depths, EXPANSIONS, strict=True))
    )
    head = Op.of("mlp_head", expansion=3, activation="gelu")
    return Architecture(224, Op.of("patchify", stride=4), stages, head=head, stem_norm="batch", head_norm="none")


def rules() -> Rules:
    """From timm's names."""
    block, ours = r"stages\.(\d+)\.blocks\.(\d+)\.", r"nodes.s\1b\2_mixer."
    return (
        rename(r"stem\.0\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"stem\.1\.(\w+)", r"nodes.stem.norm.\1"),
        rename(r"stages\.(\d+)\.downsample\.0\.(\w+)", r"nodes.s\1_downsample.norm.\2"),
        rename(r"stages\.(\d+)\.downsample\.1\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(block + r"token_mixer\.dwconv_hw\.(\w+)", ours + r"op.square.\3"),
        rename(block + r"token_mixer\.dwconv_w\.(\w+)", ours + r"op.row.\3"),
        rename(block + r"token_mixer\.dwconv_h\.(\w+)", ours + r"op.column.\3"),
        rename(block + r"norm\.(\w+)", ours + r"op.tail.norm.\3"),
        rename(block + r"mlp\.fc1\.(\w+)", ours + r"op.tail.expand.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", ours + r"op.tail.reduce.\3"),
        rename(block + r"gamma", ours + r"scale"),
        rename(r"head\.fc1\.(\w+)", r"nodes.head.hidden.\1"),
        rename(r"head\.norm\.(\w+)", r"nodes.head.hidden_norm.\1"),
        rename(r"head\.fc2\.(\w+)", r"nodes.head.linear.\1"),
    )


SIZES = {
    "inception_next_atto": (40, (2, 2, 6, 2), 9, 4, 4156520, 503035040, 75.3),
    "inception_next_t": (96, (3, 3, 9, 3), 11, 8, 28055680, 4188634272, 82.5),
    "inception_next_s": (96, (3, 3, 27, 3), 11, 8, 49374016, 8355682080, 83.6),
    "inception_next_b": (128, (3, 3, 27, 3), 11, 8, 86672136, 14841072000, 84.1),
}
"""Width, depths, band, divisor, parameters, MACs, top-1."""
TIMM = {"atto": "atto", "t": "tiny", "s": "small", "b": "base"}

for _name, (_width, _depths, _band, _divisor, _params, _macs, _top1) in SIZES.items():
    _timm = f"inception_next_{TIMM[_name.rsplit('_', 1)[-1]]}"
    _make = partial(architecture, _width, _depths, _band, _divisor)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _timm, rules))
