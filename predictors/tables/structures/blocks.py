"""Blocks with settings: columns `block0_e block0_k block0_l block0_se ...`, as in the MnasNet space (arXiv:1807.11626).

`l` (or `n`) is how many layers a block has. Its first layer changes width and resolution, so it is a slot of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from nas.predictors.tables.structures.base import Encoded, register_structure
from nas.predictors.tables.structures.slots import Slots, encode_slots
from nas.predictors.timings import Array

REPEATS = ("l", "n")
_NAME = re.compile(r"[a-z]+(\d+)_([a-z]+)")


def _is_blocks(columns: Sequence[str]) -> bool:
    found = [_NAME.fullmatch(name) for name in columns]
    settings = {match[2] for match in found if match}
    blocks = {match[1] for match in found if match}
    return bool(columns) and all(found) and len(settings) * len(blocks) == len(columns) and len(settings) > 1


@register_structure("blocks", matches=_is_blocks)
def blocks(architecture: Mapping[str, Array], sizes: Mapping[str, Array]) -> Encoded:
    """The features of blocks: kinds are the joint values of all settings but the number of layers."""
    columns: dict[int, dict[str, Array]] = {}
    for name, values in architecture.items():
        match = _NAME.fullmatch(name)
        if match:
            columns.setdefault(int(match[1]), {})[match[2]] = values
    repeat = next((name for name in REPEATS if name in columns[min(columns)]), None)
    settings = [name for name in columns[min(columns)] if name != repeat]
    values = np.stack([np.stack([columns[block][name] for name in settings], 1) for block in sorted(columns)], 1)
    attributes, kinds = np.unique(values.reshape(-1, len(settings)), axis=0, return_inverse=True)
    n, number = len(values), values.shape[1]
    kinds = kinds.reshape(n, number)
    times = np.stack([columns[b][repeat] if repeat else np.ones(n) for b in sorted(columns)], 1).astype(np.float64)
    first, rest = np.minimum(times, 1), np.maximum(times - 1, 0)
    slots = Slots(
        np.repeat(kinds, 2, 1),
        np.stack([first, rest], 2).reshape(n, -1),
        attributes.astype(np.float64),
        np.arange(2 * number),
        np.ones(n),
    )
    return Encoded(encode_slots(slots, sizes), np.ones(n, bool))
