"""SpaRTAN: decomposed convolutions and wave perceptrons, between all channels first and depth-wise later."""

from __future__ import annotations

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Pay et al. 2025 (SpaRTAN), arXiv:2507.10999, table 1"
SOURCE = "https://github.com/henry-pay/SpaRTAN@1715a4308cbaac521abafd97c63068158c2716da src/model/spartan.py"
WIDTHS, DEPTHS, EXPANSIONS = (32, 64, 128, 256), (3, 3, 12, 2), (4, 4, 2, 2)


def architecture() -> Architecture:
    """The one published size."""
    downsample = Op.of("conv", bias=False, end_norm="batch", eps=1e-6, activation="silu")
    stages = tuple(
        Stage(
            width,
            "group(eps=1e-06)",
            downsample if index else None,
            (_dense(expansion) if index < 2 else _depthwise(expansion),) * depth,
            residual=Op.of("layer_scale", init=1e-5),
            downsample_norm="none",
        )
        for index, (width, depth, expansion) in enumerate(zip(WIDTHS, DEPTHS, EXPANSIONS, strict=True))
    )
    stem = Op.of("strided_convs", stride=4, last_activation=True, eps=1e-6)
    return Architecture(224, stem, stages, stem_norm="none", head_norm="none")


def _dense(expansion: int) -> Block:
    mixer = Op.of("decomposed_conv", kernel=3, dilation=2, dense=True)
    return Block((mixer,), Op.of("wave_mlp", expansion=expansion))


def _depthwise(expansion: int) -> Block:
    mixer = Op.of("decomposed_conv", kernel=3, dilation=2)
    return Block((mixer,), Op.of("wave_mlp", expansion=expansion, grouped=True))


add(Entry("spartan", architecture, 3820296, 799589888, 224, 77.7, CITE, SOURCE))
