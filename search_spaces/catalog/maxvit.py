"""CoAtNet and MaxViT: inverted bottlenecks, and attention over all of the map or in windows and grids of it."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules, split_by_head
from nas.search_spaces.catalog.weights import Rule, Rules, rename, split_qkv

CITE_COATNET = "Dai et al. 2021 (CoAtNet), arXiv:2106.04803, table 3"
CITE_MAXVIT = "Tu et al. 2022 (MaxViT), arXiv:2204.01697, tables 1 and 2"
SOURCE = "timm 1.0.31 maxxvit.py"
NOTE_COATNET = "timm's reading of the paper, which has no published weights"
HEAD_WIDTH, WINDOW = 32, 7
HEAD = Op.of("mlp_head", expansion=1, activation="tanh", hidden_norm=False)
NOTHING = Stage(64, "none", None, (Block((), None, norm="none"),), Op("plain"))


def coatnet(stem: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> Architecture:
    """Two stages of convolutions, two of attention; the first published block of each is our downsample."""
    conv = Op.of("mbconv", kernel=3, ratio=4, act="gelu", squeeze=16, last_norm=False, squeeze_act="silu")
    mlp = Op.of("mlp", expansion=4)
    stages = [Stage(stem, "none", None, NOTHING.blocks, Op("plain"))]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        heads = width // HEAD_WIDTH
        attention = Block((Op.of("global_attention", heads=heads, position="table"),), mlp)
        if index < 2:
            down = Op.of("residual_mbconv", ratio=4)
            stages.append(Stage(width, "batch", down, (Block((conv,), None),) * (depth - 1), Op("plain"), "none"))
        else:
            blocks = (Block((), mlp), *(attention,) * (depth - 1))
            down = Op.of("residual_attention", heads=heads)
            stages.append(Stage(width, "layer", down, blocks, Op("plain"), "none"))
    return Architecture(224, Op.of("conv_pair", stride=2), tuple(stages), HEAD)


def maxvit(stem: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> Architecture:
    """A published block is three of ours, the first of which is in each stage our downsample."""
    conv = Op.of("mbconv", kernel=3, ratio=4, act="gelu_tanh", squeeze=16, last_norm=False, eps=1e-3, squeeze_act="silu")
    mlp = Op.of("mlp", expansion=4, activation="gelu_tanh")
    stages = [Stage(stem, "none", None, NOTHING.blocks, Op("plain"))]
    for width, depth in zip(widths, depths, strict=True):
        heads = width // HEAD_WIDTH
        window = Op.of("window_attention", heads=heads, window=WINDOW, shift=False)
        pair = Block((window,), mlp), Block((Op.of("grid_attention", heads=heads, grid=WINDOW),), mlp)
        more = (Block((conv,), None, norm="batch(eps=0.001)"), *pair)
        down = Op.of("residual_mbconv", ratio=4, activation="gelu_tanh", even=True, eps=1e-3)
        stages.append(Stage(width, "layer(eps=1e-05)", down, pair + more * (depth - 1), Op("plain"), "none"))
    patch = Op.of("conv_pair", stride=2, activation="gelu_tanh", bias=True, even=True, eps=1e-3)
    return Architecture(224, patch, tuple(stages), HEAD)


def coatnet_rules(depths: tuple[int, ...]) -> Rules:
    """From timm's names."""
    found = _around()
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, ours = f"stages.{stage}.blocks.{block}.", f"s{stage + 1}b{block if stage > 1 else block - 1}_"
            if stage < 2:
                found += _conv(theirs, f"s{stage + 1}_downsample.op." if block == 0 else f"{ours}mixer.", block == 0)
                continue
            mixer = f"{ours}mixer.op." if block else f"s{stage + 1}_downsample.op."
            norm = {"norm1": f"{ours}mixer.norm"} if block else {"norm1.norm": f"{mixer}norm"}
            found += modules(theirs, "", {**norm, "shortcut.expand": f"{mixer}shortcut", "attn.proj": f"{mixer}out"})
            found += (_head_first(theirs, mixer), _swin_table(theirs, mixer), *_mlp(theirs, ours))
    return found


def maxvit_rules(depths: tuple[int, ...]) -> Rules:
    """From timm's names."""
    found = _around()
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, first = f"stages.{stage}.blocks.{block}.", 3 * block - 1
            ours = f"s{stage + 1}b{first}_mixer." if block else f"s{stage + 1}_downsample.op."
            found += _conv(f"{theirs}conv.", ours, block == 0)
            for number, name in enumerate(("attn_block.", "attn_grid.")):
                part, own = theirs + name, f"s{stage + 1}b{first + 1 + number}_"
                found += modules(part, own, {"norm1": "mixer.norm", "attn.proj": "mixer.op.out"}) + _mlp(part, own)
                literal, mixer = re.escape(part), f"nodes.{own}mixer.op."
                found += (
                    split_qkv(literal + r"attn\.qkv\.(\w+)", mixer + r"{}.\1"),
                    rename(
                        literal + r"attn\.rel_pos\.relative_position_bias_table",
                        f"{mixer}position.table",
                        lambda table: table.permute(1, 2, 0),
                    ),
                )
    return found


def _around() -> Rules:
    return (
        *modules("stem.", "stem.op.", {"conv1": "first", "norm1": "norm", "conv2": "second"}),
        *modules("head.", "head.", {"norm": "norm", "pre_logits.fc": "hidden", "fc": "linear"}),
    )


def _conv(theirs: str, ours: str, strided: bool) -> Rules:
    """`ours` names the downsample, or the mixer with its norm."""
    inside = "" if strided else "op."
    names = {
        "conv1_1x1": "expand", "norm1": "expand_norm", "conv2_kxk": "depthwise", "norm2": "depthwise_norm",
        "se.fc1": "squeeze.reduce", "se.fc2": "squeeze.expand", "conv3_1x1": "reduce", "shortcut.expand": "shortcut",
    }  # fmt: skip
    found = modules(theirs, ours, {"pre_norm": "norm"})
    return found + modules(theirs, ours + inside, names)


def _mlp(theirs: str, ours: str) -> Rules:
    return modules(theirs, f"{ours}channel.", {"norm2": "norm", "mlp.fc1": "op.expand", "mlp.fc2": "op.reduce"})


def _head_first(theirs: str, ours: str) -> Rule:
    names = tuple(rf"nodes.{ours}{letter}.\1" for letter in "qkv")
    return split_by_head(re.escape(theirs) + r"attn\.qkv\.(\w+)", names, (HEAD_WIDTH,) * 3)


def _swin_table(theirs: str, ours: str) -> Rule:
    """Theirs is indexed by query minus key."""
    name = re.escape(theirs) + r"attn\.rel_pos\.relative_position_bias_table"
    return rename(name, f"nodes.{ours}position.table", lambda t: t.unflatten(0, (round(len(t) ** 0.5),) * 2).flip(0, 1))


COATNETS = {
    "coatnet_0": (64, (96, 192, 384, 768), (2, 3, 5, 2), 25036820, 4546507776, 81.6),
    "coatnet_1": (64, (96, 192, 384, 768), (2, 6, 14, 2), 42225776, 8643499008, 83.3),
    "coatnet_2": (128, (128, 256, 512, 1024), (2, 6, 14, 2), 74684744, 16427134976, 84.1),
    "coatnet_3": (192, (192, 384, 768, 1536), (2, 6, 14, 2), 166966264, 36453156864, 84.5),
}
"""Width of the stem, widths, depths, parameters, MACs, top-1."""

MAXVITS = {
    "maxvit_t": (64, (64, 128, 256, 512), (2, 2, 5, 2), 30916528, 5545201664, 83.6, "maxvit_tiny_tf_224"),
    "maxvit_s": (64, (96, 192, 384, 768), (2, 2, 5, 2), 68927956, 11579172864, 84.5, "maxvit_small_tf_224"),
    "maxvit_b": (64, (96, 192, 384, 768), (2, 6, 14, 2), 119467708, 23901935616, 85.0, "maxvit_base_tf_224"),
    "maxvit_l": (128, (128, 256, 512, 1024), (2, 6, 14, 2), 211785560, 43492564992, 85.2, "maxvit_large_tf_224"),
}
"""As above, and timm's name."""

for _name, (_stem, _widths, _depths, _params, _macs, _top1) in COATNETS.items():
    _make, _rules, _timm = partial(coatnet, _stem, _widths, _depths), partial(coatnet_rules, _depths), f"{_name}_224"
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE_COATNET, SOURCE, _timm, _rules, note=NOTE_COATNET))

for _name, (_stem, _widths, _depths, _params, _macs, _top1, _timm) in MAXVITS.items():
    _make, _rules = partial(maxvit, _stem, _widths, _depths), partial(maxvit_rules, _depths)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE_MAXVIT, SOURCE, _timm, _rules))
