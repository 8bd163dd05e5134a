"""HaloNet as timm tuned it: a residual network of bottlenecks, some of them with halo attention."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add
from nas.search_spaces.catalog.naming import modules, split_by_head
from nas.search_spaces.catalog.weights import Rules, rename

if TYPE_CHECKING:
    from torch import Tensor

CITE = "Vaswani et al. 2021 (HaloNet), arXiv:2103.12731, table 1; timm's own variants of ResNet-26 and ResNet-50"
SOURCE = "timm 1.0.31 byoanet.py"
BLOCK = 8
Heads = tuple[int, ...]
"""For each block of a stage the heads of its attention, 0 for a convolution."""


def architecture(stages: tuple[Heads, ...], halo: int, activation: str) -> Architecture:
    """The first block of each stage is our downsample; before the first there is a stage that does nothing."""
    act = {} if activation == "relu" else {"act": activation}
    acts = {} if activation == "relu" else {"activation": activation}

    def attention(heads: int) -> dict[str, int]:
        return {"ratio": 4, "heads": heads, "block": BLOCK, "halo": halo}

    def block(heads: int) -> Block:
        conv = Op.of("bottleneck", kernel=3, ratio=4, **act)
        return Block((Op.of("halo_bottleneck", **attention(heads), **act) if heads else conv,), None)

    def downsample(heads: int, first: bool) -> Op:
        if heads:
            return Op.of("halo_bottleneck", **attention(heads), **acts)
        return Op.of("bottleneck", ratio=4, **acts, **({"stride": 1} if first else {}))

    found = [Stage(64, "none", None, (Block((), None, norm="none"),), Op("none"))]
    for index, heads in enumerate(stages):
        blocks = tuple(map(block, heads[1:]))
        found.append(Stage(256 << index, "none", downsample(heads[0], index == 0), blocks, Op("none")))
    return Architecture(256, Op.of("pooled_conv", stride=4, layout="tiered", **acts), tuple(found))


def rules(stages: tuple[Heads, ...], halo: int) -> Rules:
    """From timm's names."""
    stem = {f"conv{i + 1}.{part}": f"{ours}s.{i}" for i in range(3) for part, ours in (("conv", "conv"), ("bn", "norm"))}
    found = modules("stem.", "stem.op.", stem) + modules("head.", "head.", {"fc": "linear"})
    for stage, blocks in enumerate(stages):
        for block, heads in enumerate(blocks):
            ours = f"s{stage + 1}b{block - 1}_mixer.op." if block else f"s{stage + 1}_downsample.op."
            found += _block(f"stages.{stage}.{block}.", ours, 64 << stage, heads, halo)
    return found


def _block(theirs: str, ours: str, width: int, heads: int, halo: int) -> Rules:
    layers = {"conv1_1x1": "reduce", "conv3_1x1": "expand", "shortcut": "shortcut"}
    names = {f"{key}.conv": name for key, name in layers.items()}
    names |= {f"{key}.bn": f"{name}_norm" for key, name in layers.items()}
    if not heads:
        return modules(theirs, ours, {**names, "conv2_kxk.conv": "conv", "conv2_kxk.bn": "inner_norm"})
    attention, own = re.escape(theirs + "self_attn."), f"nodes.{ours}attention."

    def seen_from_the_block(vectors: Tensor) -> Tensor:
        """Theirs count keys from the corner of the rim; the ends that no offset reaches change sides."""
        return vectors.roll(-halo, 0)

    return (
        *modules(theirs, ours, {**names, "post_attn": "inner_norm", "self_attn.q": "attention.q"}),
        split_by_head(attention + r"kv\.weight", (f"{own}k.weight", f"{own}v.weight"), (width // heads,) * 2),
        rename(attention + r"pos_embed\.height_rel", f"{own}position.rows", seen_from_the_block),
        rename(attention + r"pos_embed\.width_rel", f"{own}position.columns", seen_from_the_block),
    )


SIZES = {
    "halonet26t": (((0, 0), (0, 0), (0, 8), (8, 8)), 2, "relu", 12480288, 3172810752, 79.1),
    "halonet50ts": (((0, 0, 0), (0, 0, 0, 4), (0, 8) * 3, (0, 8, 0)), 3, "silu", 22733280, 5269504000, 81.7),
}
"""Heads, halo, activation, parameters, MACs, top-1."""

for _name, (_stages, _halo, _activation, _params, _macs, _top1) in SIZES.items():
    _make, _rules = partial(architecture, _stages, _halo, _activation), partial(rules, _stages, _halo)
    add(Entry(_name, _make, _params, _macs, 256, _top1, CITE, SOURCE, _name, _rules))
