"""Node times and the latency of the network that they were taken in: two measurements of one thing.

What a node's kernels take alone leaves out what they meet in a network, weights and maps that are in no cache above all; and a
few seconds of measuring bear the machine's mood of these seconds, which all nodes of a network share. Its share of the
network's latency, which is measured in rounds over minutes, has neither fault, but gives every node the same part of what some
of them cause. For kernels that ran alone it counts all the same: by the times alone, by the geometric mean of both and by
shares 113 networks of `mobile` told 93 others with a mean error of 4.3, 3.7 and 3.5 %. In place, where caches are as in a
network, the mood alone is left: of 100 networks of `mobile` the sums of a look were off by 4.3 %, the latencies of a session by
3 %, and the geometric mean is nearer to the truth than shares (3.6 and 3.8 %).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nas.predictors.kernel_times import KERNELS, node_clock
from nas.predictors.latency_table import LatencyTable
from nas.search_spaces.graph import Node

Timed = list[tuple[Node, float]]
ALL, HALF = 1.0, 0.5
"""How far nodes go to their shares: kernels that ran alone, and nodes in place."""


def shared_out(found: Timed, latency: float, part: float) -> tuple[Timed, float]:
    """Nodes with their seconds, moved by `part` of the way, on a scale of ratios, to their shares of the network's latency
    (seconds); and by how many times that is longer than their sum."""
    factor = latency / sum(seconds for _, seconds in found)
    return [(node, seconds * factor**part) for node, seconds in found], factor


def level_nodes(table: LatencyTable, factor: float) -> None:
    """Bring all nodes of a table to where networks take `factor` times as long as their nodes alone."""
    for key, node in table.nodes.items():
        table.nodes[key] = replace(node, samples=tuple(factor * seconds for seconds in node.samples))


def usual_factor(table: LatencyTable) -> float:
    """How many times longer than its nodes alone a network usually takes, for nodes whose network is not measured; 1 where
    none was."""
    return float(np.median(list(table.factors.values()))) if table.factors else 1.0


def share(table: LatencyTable) -> float:
    """How far nodes that training networks bring go to their shares of the networks' latencies; inherited nodes are fitted to
    these."""
    return ALL if table.ancestry or node_clock(table.target) == KERNELS else HALF
