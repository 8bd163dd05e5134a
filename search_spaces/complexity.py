"""The multiply-adds of an architecture's blocks by the closed formulas of their operators: fast, and enough to order them.

`nas.predictors.cost` counts whole networks exactly, by running their nodes.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache

from nas.search_spaces import graph
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.registry import Kind, Settings, operator


def block_macs(architecture: Architecture) -> int:
    """Multiply-adds of all token and channel mixers at the architecture's own resolution, for one image.

    Stem, downsamplings and head are left out: they are small, and alike in the members of a space. A row of tokens counts as
    the square map of as many positions.
    """
    total = 0
    for node in graph.nodes(architecture):
        kind = Kind.TOKEN_MIXER if node.kind == graph.BRANCH else node.kind
        if kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER):
            width = node.in_shape[2] if node.channels is None else node.channels[1] - node.channels[0]
            side = round(math.sqrt(node.in_shape[0] * node.in_shape[1]))
            total += mixer_macs(Kind(kind), node.operator, width, side, node.settings)
    return total


@lru_cache(maxsize=16384)
def mixer_macs(kind: Kind, name: str, width: int, size: int, settings: Settings) -> int:
    """Multiply-adds of a token or channel mixer at a place, by its closed formula."""
    formula = sys.modules[operator(kind, name).module.__module__].macs
    return int(formula(width, size, **dict(settings)))
