"""MetaFormer with pooling, separable convolutions, or these and attention: PoolFormer, ConvFormer, CAFormer."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv

CITE = "Yu et al. 2022 (PoolFormer), arXiv:2111.11418, table 1"
CITE_2 = "Yu et al. 2022 (MetaFormer baselines), arXiv:2210.13452, table 1"
SOURCE = "timm 1.0.31 metaformer.py"
POOL, CONV = Op.of("pooling", pool=3), Op.of("separable_conv", kernel=7, expansion=2)
STEM = Op.of("overlap", stride=4, padding="tight")


def poolformer(widths: tuple[int, ...], depths: tuple[int, ...], init: float) -> Architecture:
    """The first PoolFormer: group norm, GELU, layer scale that begins at `init`."""
    stages = tuple(
        Stage(
            width,
            "group",
            Op("overlap") if index else None,
            (Block((POOL,), Op.of("mlp", expansion=4)),) * depth,
            residual=Op.of("layer_scale", init=init),
            downsample_norm="none",
        )
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True))
    )
    return Architecture(224, STEM, stages, head=Op("pool_norm"), stem_norm="none")


def baseline(widths: tuple[int, ...], depths: tuple[int, ...], mixers: str, head: str) -> Architecture:
    """A MetaFormer of the second paper; `mixers` holds a letter for each stage: pooling, convolution, attention.

    Scales on the stream in the last two stages, StarReLU, no bias in mixers, MLPs and norms.
    """
    mlp = Op.of("mlp", expansion=4, activation="star_relu", bias=False)
    stages = tuple(
        Stage(
            width,
            "group(bias=False, eps=1e-06)" if letter == "p" else "layer(bias=False)",
            Op("overlap") if index else None,
            (Block((_mixer(letter, width),), mlp),) * depth,
            residual=Op("residual_scale" if index > 1 else "plain"),
            downsample_norm="layer(bias=False)",
        )
        for index, (width, depth, letter) in enumerate(zip(widths, depths, mixers, strict=True))
    )
    return Architecture(224, STEM, stages, head=Op(head), stem_norm="layer(bias=False)", head_norm="layer")


def _mixer(letter: str, width: int) -> Op:
    attention = Op.of("global_attention", heads=width // 32, bias=False, out="plain")
    return {"p": POOL, "c": CONV, "a": attention}[letter]


def rules() -> Rules:
    """From timm's names."""
    block = r"stages\.(\d+)\.blocks\.(\d+)\."
    mixer, channel = r"nodes.s\1b\2_mixer.", r"nodes.s\1b\2_channel."
    return (
        rename(r"stem\.conv\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"stem\.norm\.(\w+)", r"nodes.stem.norm.\1"),
        rename(r"stages\.(\d+)\.downsample\.norm\.(\w+)", r"nodes.s\1_downsample.norm.\2"),
        rename(r"stages\.(\d+)\.downsample\.conv\.(\w+)", r"nodes.s\1_downsample.op.conv.\2"),
        rename(block + r"norm1\.(\w+)", mixer + r"norm.\3"),
        rename(block + r"norm2\.(\w+)", channel + r"norm.\3"),
        rename(block + r"token_mixer\.pwconv1\.weight", mixer + r"op.expand.weight"),
        rename(block + r"token_mixer\.act1\.(\w+)", mixer + r"op.act.\3"),
        rename(block + r"token_mixer\.dwconv\.weight", mixer + r"op.depthwise.weight"),
        rename(block + r"token_mixer\.pwconv2\.weight", mixer + r"op.reduce.weight"),
        split_qkv(block + r"token_mixer\.qkv\.weight", mixer + r"op.{}.weight"),
        rename(block + r"token_mixer\.proj\.weight", mixer + r"op.out.weight"),
        rename(block + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\3"),
        rename(block + r"mlp\.act\.(\w+)", channel + r"op.act.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\3"),
        rename(block + r"layer_scale1\.scale", mixer + r"scale"),
        rename(block + r"layer_scale2\.scale", channel + r"scale"),
        rename(block + r"res_scale1\.scale", mixer + r"stream"),
        rename(block + r"res_scale2\.scale", channel + r"stream"),
        rename(r"head\.norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.fc\.(weight|bias)", r"nodes.head.linear.\1"),
        rename(r"head\.fc\.fc1\.(\w+)", r"nodes.head.hidden.\1"),
        rename(r"head\.fc\.norm\.(\w+)", r"nodes.head.hidden_norm.\1"),
        rename(r"head\.fc\.fc2\.(\w+)", r"nodes.head.linear.\1"),
    )


S, M, M_NARROW, B = (64, 128, 320, 512), (96, 192, 384, 768), (96, 192, 384, 576), (128, 256, 512, 768)
D12, D24, D36, D48 = (2, 2, 6, 2), (4, 4, 12, 4), (6, 6, 18, 6), (8, 8, 24, 8)
SHALLOW, DEEP = (3, 3, 9, 3), (3, 12, 18, 3)

FIRST = {
    "poolformer_s12": (S, D12, 1e-5, 11915176, 1812267008, 77.2),
    "poolformer_s24": (S, D24, 1e-5, 21388968, 3392208896, 80.3),
    "poolformer_s36": (S, D36, 1e-6, 30862760, 4972150784, 81.4),
    "poolformer_m36": (M, D36, 1e-6, 56172520, 8758788096, 82.1),
    "poolformer_m48": (M, D48, 1e-6, 73473448, 11533320192, 82.5),
}
"""Widths, depths, first layer scale, parameters, MACs, top-1."""

SECOND = {
    "poolformerv2_s12": (S, D12, "pppp", "pool_norm", 11891712, 1812267008, 78.0),
    "poolformerv2_s24": (S, D24, "pppp", "pool_norm", 21341464, 3392208896, 80.7),
    "poolformerv2_s36": (S, D36, "pppp", "pool_norm", 30791216, 4972150784, 81.6),
    "poolformerv2_m36": (M, D36, "pppp", "pool_norm", 56077168, 8758788096, 82.2),
    "poolformerv2_m48": (M, D48, "pppp", "pool_norm", 73346056, 11533320192, 82.6),
    "convformer_s18": (S, SHALLOW, "cccc", "mlp_head", 26774448, 3940984320, 83.0),
    "convformer_s36": (S, DEEP, "cccc", "mlp_head", 40012152, 7639683072, 84.1),
    "convformer_m36": (M_NARROW, DEEP, "cccc", "mlp_head", 57051640, 12842333568, 84.5),
    "convformer_b36": (B, DEEP, "cccc", "mlp_head", 99882616, 22629413376, 84.8),
    "caformer_s18": (S, SHALLOW, "ccaa", "mlp_head", 26341656, 4106941440, 83.7),
    "caformer_s36": (S, DEEP, "ccaa", "mlp_head", 39297102, 7971597312, 84.5),
    "caformer_m36": (M_NARROW, DEEP, "ccaa", "mlp_head", 56204878, 13240630656, 85.2),
    "caformer_b36": (B, DEEP, "ccaa", "mlp_head", 98753614, 23160476160, 85.5),
}
"""Widths, depths, mixers, head, parameters, MACs, top-1."""

for _name, (_widths, _depths, _init, _params, _macs, _top1) in FIRST.items():
    _make = partial(poolformer, _widths, _depths, _init)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, _name, rules))
for _name, (_widths, _depths, _mixers, _head, _params, _macs, _top1) in SECOND.items():
    _make = partial(baseline, _widths, _depths, _mixers, _head)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE_2, SOURCE, _name, rules))
