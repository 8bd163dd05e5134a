"""FastViT in the form that is trained: branches that are one convolution in evaluation, attention on the last map."""

from __future__ import annotations

import re
from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules
from nas.search_spaces.catalog.weights import Rules, rename, split_qkv

CITE = "Vasu et al. 2023 (FastViT), arXiv:2303.14189, tables 2 and 5"
SOURCE = "timm 1.0.31 fastvit.py"
NOTE = "parameters of the training form, MACs of the merged one"
HEAD_WIDTH = 32


def architecture(width: int, depths: tuple[int, ...], expansion: int, attending: bool) -> Architecture:
    """`width` channels in the first stage; `attending`: attention in the last, behind a convolution that gives positions."""
    mlp = Op.of("preceded_mlp", expansion=expansion)
    stages = []
    for index, depth in enumerate(depths):
        blocks: tuple[Block, ...] = (Block((Op.of("repmixer", kernel=3),), mlp),) * depth
        if attending and index == len(depths) - 1:
            attention = Op.of("global_attention", heads=(width << index) // HEAD_WIDTH, bias=False)
            position = Block((Op.of("depthwise_conv", kernel=7, dilation=1),), None, residual=Op("plain"))
            blocks = (position, *(Block((attention,), None, norm="batch"), Block((), mlp)) * depth)
        downsample = Op.of("reparam_conv", kernel=7) if index else None
        stages.append(Stage(width << index, "none", downsample, blocks, Op.of("layer_scale", init=1e-5)))
    return Architecture(256, Op.of("reparam_convs", stride=4), tuple(stages), Op("expanded_pool"))


BRANCHES = {
    "conv_kxk.0.conv": "large", "conv_kxk.0.bn": "large_norm", "conv_scale.conv": "small", "conv_scale.bn": "small_norm",
    "identity": "identity",
}  # fmt: skip
LARGE = {
    "large_conv.conv": "large", "large_conv.bn": "large_norm", "small_conv.conv": "small", "small_conv.bn": "small_norm",
}  # fmt: skip
MLP = {"mlp.conv.conv": "local.conv", "mlp.conv.bn": "local.norm", "mlp.fc1": "expand", "mlp.fc2": "reduce"}
MIXER = {
    "mixer.conv_kxk.0.conv": "large.conv", "mixer.conv_kxk.0.bn": "large.norm", "mixer.conv_scale.conv": "small.conv",
    "mixer.conv_scale.bn": "small.norm", "mixer.identity": "identity", "norm.identity": "subtracted",
}  # fmt: skip


def rules(depths: tuple[int, ...], attending: bool) -> Rules:
    """From timm's names."""
    found = modules("final_conv.", "head.conv.", BRANCHES) + modules("", "head.", {"head.fc": "linear"})
    found += modules("final_conv.se.", "head.squeeze.", {"fc1": "reduce", "fc2": "expand"})
    for layer in range(3):
        found += modules(f"stem.{layer}.", f"stem.op.layers.{layer}.", BRANCHES)
    for stage, depth in enumerate(depths):
        down, theirs = f"s{stage}_downsample.op.", f"stages.{stage}.blocks."
        found += modules(f"stages.{stage}.downsample.proj.0.", f"{down}large.", LARGE)
        found += modules(f"stages.{stage}.downsample.proj.1.", f"{down}point.", BRANCHES)
        found += modules(f"stages.{stage}.", f"s{stage}b0_mixer.", {"pos_emb.pos_enc": "op.conv"})
        for block in range(depth):
            if attending and stage == len(depths) - 1:
                found += _attention(
                    f"{theirs}{block}.", f"s{stage}b{2 * block + 1}_mixer.", f"s{stage}b{2 * block + 2}_channel."
                )
            else:
                found += _repmixer(f"{theirs}{block}.", f"s{stage}b{block}_mixer.", f"s{stage}b{block}_channel.")
    return found


def _repmixer(theirs: str, mixer: str, channel: str) -> Rules:
    literal = re.escape(theirs)
    return (
        *modules(f"{theirs}token_mixer.", f"{mixer}op.", MIXER),
        *modules(theirs, f"{channel}op.", MLP),
        rename(literal + r"token_mixer\.layer_scale\.gamma", f"nodes.{mixer}scale"),
        rename(literal + r"layer_scale\.gamma", f"nodes.{channel}scale"),
    )


def _attention(theirs: str, mixer: str, channel: str) -> Rules:
    literal = re.escape(theirs)
    return (
        *modules(theirs, mixer, {"norm": "norm", "token_mixer.proj": "op.out"}),
        split_qkv(literal + r"token_mixer\.qkv\.(\w+)", f"nodes.{mixer}op." + r"{}.\1"),
        *modules(theirs, f"{channel}op.", MLP),
        rename(literal + r"layer_scale_1\.gamma", f"nodes.{mixer}scale"),
        rename(literal + r"layer_scale_2\.gamma", f"nodes.{channel}scale"),
    )


SIZES = {
    "fastvit_t8": (48, (2, 2, 4, 2), 3, False, 4026232, 685160448, 75.6),
    "fastvit_t12": (64, (2, 2, 6, 2), 3, False, 7553704, 1390944256, 79.1),
    "fastvit_s12": (64, (2, 2, 6, 2), 4, False, 9473576, 1793597440, 79.8),
    "fastvit_sa12": (64, (2, 2, 6, 2), 4, True, 11580968, 1937219584, 80.6),
    "fastvit_sa24": (64, (4, 4, 12, 4), 4, True, 21554216, 3762069504, 82.6),
    "fastvit_sa36": (64, (6, 6, 18, 6), 4, True, 31527464, 5586919424, 83.6),
    "fastvit_ma36": (76, (6, 6, 18, 6), 4, True, 44068004, 7814930432, 83.9),
}
"""Width, depths, expansion, attention, parameters, MACs, top-1."""

for _name, (_width, _depths, _expansion, _attending, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _width, _depths, _expansion, _attending)
    add(Entry(_name, _make, _params, _macs, 256, _top1, CITE, SOURCE, _name, partial(rules, _depths, _attending), note=NOTE))
