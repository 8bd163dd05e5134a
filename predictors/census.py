"""The census of a profile: which nodes are timed, in which order, before whole networks are measured, where exported ones do
not bring all of them along."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from nas.predictors.in_place_timing import time_in_place
from nas.predictors.kernel_times import KERNELS, node_clock, time_in_network
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_timing import Refuse, in_place, time_repeated, unlooked
from nas.predictors.samples import Record, unrecorded
from nas.predictors.weights import weight_bytes
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.space import SearchSpace

MAX_CENSUS = 2000
FREQUENCIES = 400
GROUP = 4
TURNS, TURNS_BYTES, TURNS_SECONDS = 8, 1 << 30, 4.0
"""The most networks that take turns, about how many bytes their weights take together at most, and how long their turns."""


def node_batches(
    space: SearchSpace, table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> Iterator[tuple[Callable[[], list[tuple[Node, float]]], int]]:
    """What is left of the census, as calls that time some nodes each, and by how much each moves it on.

    In place: whole random networks, some in turn, without end worth naming. Repeated: distinct nodes in order of their
    frequency.
    """
    if node_clock(table.target) != KERNELS and in_place(table.target):
        yield from _in_turn(space, table, record, refuse)
    elif in_place(table.target):
        for index in range(table.census, MAX_CENSUS):
            yield partial(time_in_network, _drawn(space, table, index), table, record, refuse), 1
    else:
        for group in _groups(frequent_nodes(space, table))[table.census :]:
            yield partial(time_repeated, group, table, record, refuse), 1


def _in_turn(
    space: SearchSpace, table: LatencyTable, record: Record, refuse: Refuse
) -> Iterator[tuple[Callable[[], list[tuple[Node, float]]], int]]:
    """Random networks one after another, or as many together as the one before lets expect to take TURNS_SECONDS."""
    index, size, most = table.census, 1, 0
    while index < MAX_CENSUS:
        drawn = [_drawn(space, table, index + place) for place in range(size)]
        began = time.perf_counter()
        yield partial(time_in_place, drawn, table, record, refuse), size
        each, index = max(time.perf_counter() - began, 1e-6) / size, index + size
        most = most or together(drawn[0], table)
        size = max(1, min(most, int(TURNS_SECONDS / each)))


def together(network: Architecture, table: LatencyTable) -> int:
    """How many networks like one may be in memory together."""
    return max(1, min(TURNS, TURNS_BYTES // weight_bytes(network, table)))


def frequent_nodes(space: SearchSpace, table: LatencyTable) -> list[Node]:
    """The distinct nodes of random architectures of the space, the most frequent first."""
    counts: Counter[str] = Counter()
    known: dict[str, Node] = {}
    for index in range(FREQUENCIES):
        for node in nodes(_drawn(space, table, index), None, table.in_channels, table.num_classes):
            counts[node.key] += 1
            known[node.key] = node
    return [known[key] for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _drawn(space: SearchSpace, table: LatencyTable, index: int) -> Architecture:
    return space.sample(random.Random(f"{table.seed}:census:{index}"))


def _groups(found: Sequence[Node]) -> list[Sequence[Node]]:
    return [found[start : start + GROUP] for start in range(0, len(found), GROUP)]
