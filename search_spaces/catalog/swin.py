"""Swin and Swin V2: attention in windows that are shifted in every second block; and the searched Swins of S3."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv

CITE = "Liu et al. 2021 (Swin), arXiv:2103.14030, table 1"
CITE_S3 = "Chen et al. 2021 (AutoFormerV2, S3), arXiv:2111.14725, table 5"
CITE_V2 = "Liu et al. 2022 (Swin V2), arXiv:2111.09883, table 4"
SOURCE, SOURCE_V2 = "timm 1.0.31 swin_transformer.py", "timm 1.0.31 swin_transformer_v2.py"
NORM = "layer(eps=1e-05)"
HEAD_WIDTH, MLP = 32, Op.of("mlp", expansion=4)


def swin(width: int, depths: tuple[int, ...], windows: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one; a window for each stage."""
    stages = tuple(
        Stage(
            width << index,
            NORM,
            Op.of("patch_merging", norm="before") if index else None,
            _blocks(depth, 56 >> index, window, heads=(width << index) // HEAD_WIDTH),
            Op("plain"),
            "none",
        )
        for index, (depth, window) in enumerate(zip(depths, windows, strict=True))
    )
    return Architecture(224, Op.of("patchify", stride=4), stages)


def swin_v2(width: int, depths: tuple[int, ...], window: int) -> Architecture:
    """As Swin, with norms behind the mixers, cosine scores and a bias computed from the offset; images of 32 `window`."""
    how: dict[str, str | bool] = {"position": "log_cpb", "score": "cosine", "key_bias": False}
    stages = tuple(
        Stage(
            width << index,
            NORM,
            Op.of("patch_merging", norm="after") if index else None,
            _blocks(depth, 8 * window >> index, window, heads=(width << index) // HEAD_WIDTH, **how),
            Op("post_norm"),
            "none",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(32 * window, Op.of("patchify", stride=4), stages)


def _blocks(depth: int, side: int, window: int, **settings: int | str | bool) -> tuple[Block, ...]:
    """Every second block shifts its windows, if they are smaller than the map."""
    attention = partial(Op.of, "window_attention", window=window, **settings)
    return tuple(Block((attention(shift=bool(block % 2) and window < side),), MLP) for block in range(depth))


def rules() -> Rules:
    """From timm's names, of both."""
    block, merging = r"layers\.(\d+)\.blocks\.(\d+)\.", r"layers\.(\d+)\.downsample\."
    mixer, channel, down = r"nodes.s\1b\2_mixer.", r"nodes.s\1b\2_channel.", r"nodes.s\1_downsample.op."
    return (
        rename(r"patch_embed\.proj\.(\w+)", r"nodes.stem.op.conv.\1"),
        rename(r"patch_embed\.norm\.(\w+)", r"nodes.stem.norm.\1"),
        rename(merging + r"reduction\.weight", down + "weight", lambda w: w.unflatten(1, (4, -1))),
        rename(block + r"norm1\.(\w+)", mixer + r"norm.\3"),
        rename(block + r"norm2\.(\w+)", channel + r"norm.\3"),
        split_qkv(block + r"attn\.qkv\.(\w+)", mixer + r"op.{}.\3"),
        rename(block + r"attn\.proj\.(\w+)", mixer + r"op.out.\3"),
        rename(block + r"mlp\.fc1\.(\w+)", channel + r"op.expand.\3"),
        rename(block + r"mlp\.fc2\.(\w+)", channel + r"op.reduce.\3"),
        rename(r"norm\.(\w+)", r"nodes.head.norm.\1"),
        rename(r"head\.fc\.(\w+)", r"nodes.head.linear.\1"),
    )


def rules_v1() -> Rules:
    """Swin's own: the table of biases, and the norm of four pixels, pixel after pixel."""
    table, down = r"layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table", r"layers\.(\d+)\.downsample\.norm\."
    return (
        *rules(),
        rename(
            table,
            r"nodes.s\1b\2_mixer.op.position.table",
            lambda t: t.unflatten(0, (round(t.shape[0] ** 0.5), -1)).flip(0, 1),
        ),
        rename(down + "weight", r"nodes.s\1_downsample.op.patch_scale", lambda w: w.unflatten(0, (4, -1))),
        rename(down + "bias", r"nodes.s\1_downsample.op.patch_shift", lambda w: w.unflatten(0, (4, -1))),
    )


def rules_v2() -> Rules:
    """Swin V2's own."""
    attention, mixer = r"layers\.(\d+)\.blocks\.(\d+)\.attn\.", r"nodes.s\1b\2_mixer.op."
    return (
        *rules(),
        rename(attention + r"logit_scale", mixer + "temperature"),
        rename(attention + r"cpb_mlp\.0\.(\w+)", mixer + r"position.hidden.\3"),
        rename(attention + r"cpb_mlp\.2\.weight", mixer + "position.score.weight"),
        rename(attention + r"([qv])_bias", mixer + r"\3.bias"),
        rename(r"layers\.(\d+)\.downsample\.norm\.(\w+)", r"nodes.s\1_downsample.op.norm.\2"),
    )


T, S, B = (2, 2, 6, 2), (2, 2, 18, 2), (2, 2, 30, 2)
SEVEN = (7, 7, 7, 7)
SWIN = {
    "swin_t": (partial(swin, 96, T, SEVEN), 28288354, 4490566656, 81.4, CITE, "swin_tiny_patch4_window7_224"),
    "swin_s": (partial(swin, 96, S, SEVEN), 49606258, 8740875264, 83.2, CITE, "swin_small_patch4_window7_224"),
    "swin_b": (partial(swin, 128, S, SEVEN), 87768224, 15430946816, 83.6, CITE, "swin_base_patch4_window7_224"),
    "swin_s3_t": (partial(swin, 96, T, (7, 7, 14, 7)), 28328674, 4623332352, 82.1, CITE_S3, "swin_s3_tiny_224"),
    "swin_s3_s": (partial(swin, 96, S, (14, 14, 14, 7)), 49737298, 9404703744, 83.8, CITE_S3, "swin_s3_small_224"),
    "swin_s3_b": (partial(swin, 96, B, (7, 7, 14, 7)), 71125762, 13655012352, 83.9, CITE_S3, "swin_s3_base_224"),
}
"""Network (width, depths, windows), parameters, MACs, top-1, citation, timm's name."""

SWIN_V2 = {
    "swinv2_t_w8": (partial(swin_v2, 96, T, 8), 28347154, 5939690496, 81.8, "swinv2_tiny_window8_256"),
    "swinv2_s_w8": (partial(swin_v2, 96, S, 8), 49728418, 11545857024, 83.8, "swinv2_small_window8_256"),
    "swinv2_b_w8": (partial(swin_v2, 128, S, 8), 87918816, 20325134336, 84.2, "swinv2_base_window8_256"),
}
"""Network (width, depths, window), parameters, MACs, top-1, timm's name."""

for _name, (_make, _params, _macs, _top1, _cite, _timm) in SWIN.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, _cite, SOURCE, _timm, rules_v1))
for _name, (_make, _params, _macs, _top1, _timm) in SWIN_V2.items():
    add(Entry(_name, _make, _params, _macs, 256, _top1, CITE_V2, SOURCE_V2, _timm, rules_v2))
