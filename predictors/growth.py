"""How much longer than its nodes alone a network takes the more nodes it has.

What runs alone, again and again, finds its instructions and maps in the nearest caches; the more other nodes run in between,
the less of them is left. On a CPU with half a megabyte of them per core, 40 networks of `tiny`, of 19 to 58 nodes, took 1.3
times as long in ONNX Runtime as their kernels alone, and that grew with the number of nodes to the power of 0.2; on `mobile`,
whose nodes fill the caches by themselves, it did not grow. Nodes that are told by their shares of a network's latency bear its
factor, which is another one in another network: without this law those of few nodes were predicted too slow, by a tenth and
more, and the mean error of 100 networks was 4.8 instead of 3.5 %.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_shares import share
from nas.predictors.timings import Array
from nas.search_spaces.graph import nodes

USUAL = 0.3
"""How large an exponent is expected to be: what few networks say of it counts less."""
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """A network of n nodes takes (n / exp(`middle`)) ** `exponent` times what these take in one of the middle size."""

    exponent: float = 0.0
    middle: float = 0.0

    @classmethod
    def fit(cls, table: LatencyTable) -> Self:
        """By the factors of the networks that brought node times. No growth where these are fewer than FEWEST, or fall: no
        cache gains by what runs in between."""
        brought = _brought(table)
        counts = np.log([sum(keys.values()) for keys in brought.values()])
        if len(counts) < FEWEST or np.ptp(counts) == 0:
            return cls()
        factors = np.log([table.factors[digest] for digest in brought])
        beside, above = counts - counts.mean(), factors - factors.mean()
        rest = above - beside * (beside @ above) / (beside @ beside)
        exponent = float(beside @ above / (beside @ beside + rest.var() / USUAL**2))
        return cls(max(exponent, 0.0), float(counts.mean()))

    def __call__(self, counts: Array) -> Array:
        """The factors of networks with so many nodes, both (n,)."""
        return np.exp(self.exponent * (np.log(counts) - self.middle))

    def without(self, table: LatencyTable) -> LatencyTable:
        """The table with nodes as they are in a network of the middle size: the samples of one by what they bear in the mean,
        for of which network each is, is not kept."""
        if self.exponent == 0:
            return table
        borne: defaultdict[str, float] = defaultdict(float)
        for keys in _brought(table).values():
            grown = share(table) * float(np.log(self(np.array(sum(keys.values())))))
            for key, times in keys.items():
                borne[key] += times * grown
        found = dict(table.nodes)
        for key in borne.keys() & found.keys():
            node = found[key]
            factor = math.exp(-borne[key] / len(node.samples))
            found[key] = replace(node, samples=tuple(factor * seconds for seconds in node.samples))
        return replace(table, nodes=found)


def _brought(table: LatencyTable) -> dict[str, Counter[str]]:
    """How often each network that brought node times has each node, by the digest of one and the key of the other, in the order
    of digests: the same in every process."""
    found = {}
    for digest in sorted(table.factors.keys() & table.networks.keys()):
        architecture = table.networks[digest].architecture
        found[digest] = Counter(node.key for node in nodes(architecture, None, table.in_channels, table.num_classes))
    return found
