"""NAT and DiNAT: attention to the nearest positions, in DiNAT every second time dilated so as to span the map."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Hassani et al. 2023 (NAT), arXiv:2204.07143, table 1"
CITE_DILATED = "Hassani and Shi 2022 (DiNAT), arXiv:2209.15001, table 1"
SOURCE = "https://github.com/SHI-Labs/Neighborhood-Attention-Transformer@d334f5bb0bd73cad05e5aeaf7c14cce3876a9650"
NORM = "layer(eps=1e-05)"
DILATIONS = (8, 4, 2, 1)
"""Of every second block of a stage, as many as fit seven of them into the map at 224 pixels."""


def architecture(
    width: int, depths: tuple[int, ...], heads: int, expansion: int, dilated: bool, scale: float | None
) -> Architecture:
    """Overlapping convolutions before each stage; `width` and `heads` of the first stage, twice as many in each later one."""
    stages = tuple(
        Stage(
            width << index,
            NORM,
            Op.of("overlap", bias=False, end_norm="layer") if index else None,
            _blocks(depth, heads << index, expansion, DILATIONS[index] if dilated else 1),
            Op("plain") if scale is None else Op.of("layer_scale", init=scale),
            "none",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("strided_convs", stride=4, activation="none", inner_norm="none"), stages)


def swin_like(width: int, depths: tuple[int, ...], heads: int) -> Architecture:
    """DiNAT_s: disjoint patches, and patch merging between the stages."""
    stages = tuple(
        Stage(
            width << index,
            NORM,
            Op.of("patch_merging", norm="before") if index else None,
            _blocks(depth, heads << index, 4, DILATIONS[index]),
            Op("plain"),
            "none",
        )
        for index, depth in enumerate(depths)
    )
    return Architecture(224, Op.of("patchify", stride=4), stages)


def _blocks(depth: int, heads: int, expansion: int, dilation: int) -> tuple[Block, ...]:
    near, far = (
        Block((Op.of("neighbourhood_attention", heads=heads, kernel=7, dilation=step),), Op.of("mlp", expansion=expansion))
        for step in (1, dilation)
    )
    return tuple(far if number % 2 else near for number in range(depth))


MINI, TINY, SWIN, SWIN_S = (3, 4, 6, 5), (3, 4, 18, 5), (2, 2, 6, 2), (2, 2, 18, 2)
SIZES = {
    "nat_mini": (64, MINI, 2, 3, False, None, 19984174, 2885682176, 81.8),
    "nat_tiny": (64, TINY, 2, 3, False, None, 27901582, 4663116800, 83.2),
    "nat_small": (96, TINY, 3, 2, False, 1e-5, 50743297, 8324138496, 83.7),
    "nat_base": (128, TINY, 4, 2, False, 1e-5, 89769652, 14412875776, 84.3),
    "dinat_mini": (64, MINI, 2, 3, True, None, 19984174, 2800483328, 81.8),
    "dinat_tiny": (64, TINY, 2, 3, True, None, 27901582, 4489407488, 82.7),
    "dinat_small": (96, TINY, 3, 2, True, None, 50719681, 8063574528, 83.8),
    "dinat_base": (128, TINY, 4, 2, True, 1e-5, 89769652, 14065457152, 84.4),
}
"""Width, depths, heads, expansion of the MLPs, dilated, first layer scale, parameters, MACs, top-1."""
SWIN_LIKE = {
    "dinat_s_tiny": (96, SWIN, 3, 28288354, 4603011072, 81.8),
    "dinat_s_small": (96, SWIN_S, 3, 49606258, 8986085376, 83.5),
    "dinat_s_base": (128, SWIN_S, 4, 87768224, 15757893632, 83.8),
}
"""Width, depths, heads, parameters, MACs, top-1."""

for _name, (_width, _depths, _heads, _expansion, _dilated, _scale, _params, _macs, _top1) in SIZES.items():
    _file, _cite = ("dinat.py", CITE_DILATED) if _dilated else ("nat.py", CITE)
    _make = partial(architecture, _width, _depths, _heads, _expansion, _dilated, _scale)
    add(Entry(_name, _make, _params, _macs, 224, _top1, _cite, f"{SOURCE} classification/{_file}"))
for _name, (_width, _depths, _heads, _params, _macs, _top1) in SWIN_LIKE.items():
    _like = partial(swin_like, _width, _depths, _heads)
    add(Entry(_name, _like, _params, _macs, 224, _top1, CITE_DILATED, f"{SOURCE} classification/dinats.py"))
