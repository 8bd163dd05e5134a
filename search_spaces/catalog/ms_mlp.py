"""MS-MLP: ConvNeXt blocks whose convolution reads shifted groups of channels, with kernels that grow with the shift."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Zheng et al. 2022 (MS-MLP), arXiv:2202.06510, table 1"
SOURCE = "https://github.com/JegZheng/MS-MLP@a10d34d955c6061c767600937b534abd8a200871 models/ms_mlp.py"
NOTE = "the official table counts more MACs than the released model has convolutions and products"
KERNELS = ("1-1-3-5-7", "1-3-3-5-7", "1-5-5-5-7", "1-7-7-7-7")


def architecture(width: int, depths: tuple[int, ...]) -> Architecture:
    """`width` channels in the first stage, twice as many in each later one; shifts from -2 to 2."""
    stages = tuple(
        Stage(
            width << index,
            "none",
            Op.of("conv", end_norm="layer", eps=1e-6) if index else None,
            (Block((Op.of("mix_shift_conv", kernels=kernels, expansion=4),), None),) * depth,
            residual=Op.of("layer_scale", init=1e-6),
        )
        for index, (depth, kernels) in enumerate(zip(depths, KERNELS, strict=True))
    )
    return Architecture(224, Op.of("patchify", stride=4), stages, head=Op("pool_norm"), stem_norm="layer", head_norm="layer")


SIZES = {
    "ms_mlp_t": (96, (3, 3, 9, 3), 28656232, 4437768960, 82.1),
    "ms_mlp_s": (96, (3, 3, 27, 3), 50303752, 8667135360, 83.4),
    "ms_mlp_b": (128, (3, 3, 27, 3), 88696792, 15334215328, 83.8),
}
"""Width, depths, parameters, MACs, top-1."""

for _name, (_width, _depths, _params, _macs, _top1) in SIZES.items():
    _make = partial(architecture, _width, _depths)
    add(Entry(_name, _make, _params, _macs, 224, _top1, CITE, SOURCE, note=NOTE))
