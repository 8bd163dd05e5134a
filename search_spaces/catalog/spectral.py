"""SpectFormer and SVT: a global filter or a gated wavelet transform in the early stages, attention in the later ones."""

from __future__ import annotations

from functools import partial

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.catalog.entry import Entry, add

CITE = "Patro et al. 2023 (SpectFormer), arXiv:2304.06446, hierarchical models"
SOURCE = (
    "https://github.com/badripatro/SpectFormers@b6cf487a0ea71eeb252d5ba0fc7410b3f5dbd256 "
    "hierarchical_architecture/spectformer.py"
)
CITE_WAVELET = "Patro and Agneeswaran 2023 (Scattering Vision Transformer), arXiv:2311.01310, hierarchical models"
SOURCE_WAVELET = "https://github.com/badripatro/svt@fcbc9b325f5d54f0a2e0fef8f35533240faa03c9 svt.py"
NOTE = "trained with token labels"
EXPANSIONS, HEAD_WIDTH = (8, 8, 4, 4), 32


def architecture(inner: int, widths: tuple[int, ...], depths: tuple[int, ...], spectral: tuple[Op, ...]) -> Architecture:
    """`inner` channels in the stem, the mixers `spectral` in the first stages.

    SVT's code has wavelets in its first stage only, where the paper has them in two.
    """
    stages = tuple(
        Stage(
            width,
            "layer",
            Op.of("overlap", end_norm="layer") if index else None,
            (Block((_mixer(index, width, spectral),), Op.of("conv_mlp", expansion=EXPANSIONS[index])),) * depth,
            Op("plain"),
        )
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True))
    )
    stem = Op.of("conv_patch", stride=4, overlap=True, **({} if inner == 64 else {"inner": inner}))
    head = Op.of(
        "class_attention", layers=1, heads=widths[-1] // HEAD_WIDTH, expansion=4, auxiliary=True, bias=True, start="mean"
    )
    return Architecture(224, stem, stages, head, stem_norm="layer(eps=1e-05)")


def _mixer(stage: int, width: int, spectral: tuple[Op, ...]) -> Op:
    return spectral[stage] if stage < len(spectral) else Op.of("global_attention", heads=width // HEAD_WIDTH)


FILTERS, WAVELETS = (Op("global_filter"),) * 2, (Op.of("scattering", blocks=4),)
S = 32, (64, 128, 320, 448), (3, 4, 6, 3)
B = 64, (64, 128, 320, 512), (3, 4, 12, 3)
L = 64, (96, 192, 384, 512), (3, 6, 18, 3)

SIZES = {
    "spectformer_h_s": (*S, FILTERS, 22226928, 4347509376, 84.25),
    "spectformer_h_b": (*B, FILTERS, 33052880, 6892723200, None),
    "spectformer_h_l": (*L, FILTERS, 54675792, 13681335296, 85.7),
    "svt_h_s": (*S, WAVELETS, 22052592, 5420874368, 84.2),
    "svt_h_b": (*B, WAVELETS, 32878544, 7966088192, 85.2),
    "svt_h_l": (*L, WAVELETS, 54594000, 16181304320, 85.7),
}
"""Channels in the stem, widths, depths, spectral mixers, parameters, MACs, top-1."""

for _name, (_inner, _widths, _depths, _spectral, _params, _macs, _top1) in SIZES.items():
    _wavelet = _name.startswith("svt")
    _cite, _source = (CITE_WAVELET, SOURCE_WAVELET) if _wavelet else (CITE, SOURCE)
    _make = partial(architecture, _inner, _widths, _depths, _spectral)
    add(Entry(_name, _make, _params, _macs, 224, _top1, _cite, _source, note=NOTE))
