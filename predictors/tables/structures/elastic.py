"""Elastic networks: kernel and expansion of every layer, how many layers of each stage count, and the input's resolution.

Columns `ks00 ... e00 ... d0 ... r`, as for Once-for-All MobileNetV3 (Cai et al. 2020, arXiv:1908.09791). The layers of a
stage beyond its depth are absent, whatever their columns say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from nas.predictors.tables.structures.base import Encoded, register_structure
from nas.predictors.tables.structures.slots import Slots, encode_slots
from nas.predictors.timings import Array

RESOLUTION = ("r", "resolution")


def _settings(columns: Sequence[str]) -> dict[str, list[str]]:
    """The numbered columns by their prefix."""
    found: dict[str, list[str]] = {}
    for name in columns:
        match = re.fullmatch(r"([a-z]+)\d+", name)
        if match:
            found.setdefault(match[1], []).append(name)
    return found


def _is_elastic(columns: Sequence[str]) -> bool:
    found = _settings(columns)
    depths = len(found.pop("d", ()))
    lengths = {len(names) for names in found.values()}
    rest = len(columns) - depths - sum(len(names) for names in found.values())
    return depths > 0 and len(lengths) == 1 and not max(lengths) % depths and rest == sum(r in columns for r in RESOLUTION)


@register_structure("elastic", matches=_is_elastic)
def elastic(architecture: Mapping[str, Array], sizes: Mapping[str, Array]) -> Encoded:
    """The features of the layers that are there; the first layer of a stage changes the resolution and is its own stage."""
    found = _settings(list(architecture))
    depth = np.stack([architecture[name] for name in found.pop("d")], 1)
    values = np.stack([np.stack([architecture[name] for name in names], 1) for names in found.values()], 2)
    n, layers, settings = values.shape
    each = layers // depth.shape[1]
    attributes, kinds = np.unique(values.reshape(-1, settings), axis=0, return_inverse=True)
    within = np.arange(layers) % each
    times = (within < np.repeat(depth, each, 1)).astype(np.float64)
    side = next((architecture[name] for name in RESOLUTION if name in architecture), np.ones(n))
    slots = Slots(
        kinds.reshape(n, layers),
        times,
        attributes.astype(np.float64),
        np.arange(layers) // each * 2 + (within > 0),
        (side / side.max()) ** 2,
    )
    return Encoded(encode_slots(slots, sizes), np.ones(n, bool))
