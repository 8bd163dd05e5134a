"""T2T-ViT: tokens from patches that are cut again and again, then a deep and narrow transformer."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Yuan et al. 2021 (T2T-ViT), arXiv:2101.11986, tables 1 and 2"
SOURCE = "https://github.com/yitu-opensource/T2T-ViT@0f63dc9558f4d192de926504dbddfa1b3f5db6ca models/t2t_vit.py"
NOTE = (
    "the fixed sinusoid positions and random features of the code count as parameters, there and here; published weights "
    "were trained with scores divided by the root of all channels: multiply the queries' weight by 1 / sqrt(heads)"
)
NORM = "layer(eps=1e-05)"
HEAD_WIDTH = 64
UNTOUCHED = Block((), None, norm="none")
"""The map as the stem leaves it, before the class token joins."""


def architecture(width: int, depth: int, expansion: int, mixing: str) -> Architecture:
    """`depth` blocks of `width` channels; `mixing` between the cuts of the stem by a performer or a transformer."""
    block = Block((Op.of("global_attention", heads=width // HEAD_WIDTH, bias=False),), Op.of("mlp", expansion=expansion))
    stages = (
        Stage(width, "none", None, (UNTOUCHED,)),
        Stage(width, NORM, Op.of("class_token", positions=True), (block,) * depth, Op("plain"), "none"),
    )
    chosen = {} if mixing == "performer" else {"mixing": mixing}
    return Architecture(224, Op.of("tokens_to_token", stride=16, **chosen), stages, Op("class_token"))


SIZES = {
    "t2t_vit_7": (partial(architecture, 256, 7, 2, "performer"), 4310222, 1146863616, 71.7),
    "t2t_vit_10": (partial(architecture, 256, 10, 2, "performer"), 5889230, 1516328448, 75.2),
    "t2t_vit_12": (partial(architecture, 256, 12, 2, "performer"), 6941902, 1762638336, 76.5),
    "t2t_vit_14": (partial(architecture, 384, 14, 3, "performer"), 21545550, 4783468544, 81.5),
    "t2t_vit_19": (partial(architecture, 448, 19, 3, "performer"), 39177422, 8479682176, 81.9),
    "t2t_vit_24": (partial(architecture, 512, 24, 3, "performer"), 64105934, 13661874688, 82.3),
    "t2t_vit_t_14": (partial(architecture, 384, 14, 3, "transformer"), 21541070, 6088721920, 81.7),
    "t2t_vit_t_19": (partial(architecture, 448, 19, 3, "transformer"), 39172942, 9784935552, 82.4),
    "t2t_vit_t_24": (partial(architecture, 512, 24, 3, "transformer"), 64101454, 14967128064, 82.6),
}
"""Network (width, depth, expansion, mixing), parameters, MACs, top-1."""

for _name, (_make, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, note=NOTE))
