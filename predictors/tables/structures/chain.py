"""Chains: one column a layer (`l00 l01 ...`, `b0 b1 ...`), whose value is the code of its block.

FBNet (Wu et al. 2019, arXiv:1812.03443) and NAS-Bench-Macro (Su et al. 2021, arXiv:2103.11922) are such spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from nas.predictors.tables.structures.base import Encoded, register_structure
from nas.predictors.tables.structures.slots import Slots, encode_slots
from nas.predictors.timings import Array

LAYERS_A_STAGE = 4


def _is_chain(columns: Sequence[str]) -> bool:
    prefixes = {re.sub(r"\d+$", "", name) for name in columns}
    return len(columns) > 1 and len(prefixes) == 1 and all(re.search(r"\d$", name) for name in columns)


@register_structure("chain", matches=_is_chain, rank=1)
def chain(architecture: Mapping[str, Array], sizes: Mapping[str, Array]) -> Encoded:
    """The features of a chain; neighbouring layers count as a stage."""
    codes = np.stack(list(architecture.values()), 1)
    known = np.unique(codes)
    kinds = np.searchsorted(known, codes)
    n, layers = codes.shape
    stage = np.arange(layers) * max(1, round(layers / LAYERS_A_STAGE)) // layers
    slots = Slots(kinds, np.ones((n, layers)), np.zeros((len(known), 0)), stage, np.ones(n))
    return Encoded(encode_slots(slots, sizes), np.ones(n, bool))
