"""BiFormer: attention of each region of the map to the regions that resemble it most."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Zhu et al. 2023 (BiFormer), arXiv:2303.08810, table 1"
SOURCE = "https://github.com/rayleizhu/BiFormer@1697bbbeafb8680524898f1dcaac10defd0604be models/biformer.py"
REGIONS, TOP_K, HEAD_WIDTH = 7, (1, 4, 16), 32


def architecture(width: int, depths: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one.

    The last stage has global attention, always with 8 heads and no biases. A published block is two of ours: a depth-wise
    convolution that is added to the stream, and the rest.
    """
    position = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), None, norm="none")
    stages = tuple(
        Stage(
            width << index,
            "layer",
            Op.of("overlap", end_norm="batch") if index else None,
            (position, Block((_attention(width << index, index),), Op.of("mlp", expansion=3))) * depth,
            Op("plain"),
            "none",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("strided_convs", stride=4, bias=True), stages, stem_norm="none", head_norm="batch")


def _attention(width: int, stage: int) -> Op:
    if stage == len(TOP_K):
        return Op.of("enhanced_attention", heads=8, kernel=5, bias=False)
    return Op.of("routed_attention", heads=width // HEAD_WIDTH, regions=REGIONS, top_k=TOP_K[stage], lepe=5)


SIZES = {
    "biformer_t": (64, (2, 2, 8, 2), 13142760, 2215901568, 81.4),
    "biformer_s": (64, (4, 4, 18, 4), 25536232, 4463629568, 83.8),
    "biformer_b": (96, (4, 4, 18, 4), 56804968, 9758990208, 84.3),
}
"""Width, depths, parameters, MACs, top-1."""

for _name, (_width, _depths, _params, _macs, _top1) in SIZES.items():
    add(Entry(_name, partial(architecture, _width, _depths), _params, _macs, 224, _top1, CITE, SOURCE))
