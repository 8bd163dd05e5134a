"""Which architectures to train alone: spread over the costs of the space, a quarter of them of one cost."""

from __future__ import annotations

import math
import random

import numpy as np

from nas.search_spaces.architecture import Architecture
from nas.search_spaces.complexity import block_macs
from nas.search_spaces.genotype import Gene
from nas.search_spaces.registry import Value
from nas.search_spaces.space import SearchSpace

CANDIDATES_A_PROBE = 40
SIMILAR_PART = 4
_ENDS = (0.01, 0.99)


def probes(space: SearchSpace, number: int, seed: int) -> list[Architecture]:
    """`number` distinct members of a space, cheapest first; fewer where it holds fewer.

    Three quarters lie at equal steps of the logarithm of the MACs, from nearly the cheapest to nearly the dearest, and the
    last quarter about the median: there no count of MACs tells good networks from bad.
    """
    rng = random.Random(f"probes:{seed}")
    drawn = {spread(space, rng): None for _ in range(CANDIDATES_A_PROBE * number)}
    left = {architecture: math.log(max(1, block_macs(architecture))) for architecture in drawn}
    low, high = np.quantile(list(left.values()), _ENDS)
    similar = number // SIMILAR_PART
    wanted = [*np.linspace(low, high, number - similar), *[float(np.median(list(left.values())))] * similar]
    chosen = []
    for cost in wanted[: len(left)]:
        nearest = min(left, key=lambda each: abs(left[each] - cost))
        chosen.append(nearest)
        del left[nearest]
    return sorted(chosen, key=block_macs)


def spread(space: SearchSpace, rng: random.Random) -> Architecture:
    """A random member of a random overall size: with every gene drawn on its own, sums would crowd around the middle."""
    size = rng.random()
    return space.decode({gene.name: _near(gene, size, rng) for gene in space.genes})


def _near(gene: Gene, size: float, rng: random.Random) -> Value:
    if not gene.ordered:
        return rng.choice(gene.choices)
    place = min(max(size + rng.uniform(-0.4, 0.4), 0.0), 1.0)
    return gene.choices[min(int(place * len(gene.choices)), len(gene.choices) - 1)]


def most_similar(macs: list[float]) -> list[int]:
    """The indices of the quarter of the probes whose MACs lie closest together, as ratios."""
    count = max(3, len(macs) // SIMILAR_PART)
    order = sorted(range(len(macs)), key=lambda index: macs[index])
    windows = [order[start : start + count] for start in range(len(order) - count + 1)]
    return min(windows, key=lambda window: macs[window[-1]] / max(macs[window[0]], 1.0))
