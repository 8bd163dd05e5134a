"""Node times and the latency of the network that they were taken in: two measurements of one thing.

What a node's kernels take alone leaves out what they meet in a network, weights and maps that are in no cache above all; and a
few seconds of measuring bear the machine's mood of these seconds, which all nodes of a network share. Its share of the
network's latency, which is measured in rounds over minutes, has neither fault, but gives every node the same part of what some
of them cause. The geometric mean of both is nearer to the truth than either. In place, where caches are as in a network, the
mood alone is left: of 100 networks of `mobile` the sums of a look were off by 4.3 %, the latencies of a session by 3 %.
"""

from __future__ import annotations

import math

import numpy as np

from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.search_spaces.graph import Node, nodes

Timed = list[tuple[Node, float]]


def shared_out(found: Timed, latency: float) -> Timed:
    """Nodes with the geometric mean of their seconds and of their shares of the network's latency (seconds)."""
    factor = math.sqrt(latency / sum(seconds for _, seconds in found))
    return [(node, seconds * factor) for node, seconds in found]


def usual_factor(table: LatencyTable) -> float:
    """What `shared_out` usually multiplied by, for nodes whose network is not measured: the median of latency / sum of node
    times over the training networks, 1 where none has all its nodes in the table."""
    found = []
    for network in table.of_role(TRAIN):
        parts = nodes(network.architecture, None, table.in_channels, table.num_classes)
        times = [table.nodes.get(node.key) for node in parts]
        known = [float(np.mean(time.samples)) for time in times if time is not None]
        if len(known) == len(times):
            found.append(float(table.latency([network])[0]) / sum(known))
    return float(np.median(found)) if found else 1.0
