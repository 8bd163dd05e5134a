"""Node times of nodes much larger than those that random networks bring.

What a node takes is told by smaller ones well as long as it fits the same caches. Some operators grow with the square of a
map: in `mobile` the largest nodes of seven of them were estimated at two to twenty times all that sixty random networks held,
and the few networks that have one were off by half. So nodes are timed at every doubling up to the largest.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

from nas.predictors.kernel_times import KERNELS, node_clock, time_in_network
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import NodeTimes, registered
from nas.predictors.node_timing import Refuse, in_place, time_repeated, unlooked
from nas.predictors.samples import Record, unrecorded
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.exclusion import operators_in
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.space import SearchSpace

POOL, MOST = 400, 24
STEP, STEP_EXPORTED = 2.0, 4.0
"""By which factor nodes may take longer, by estimate, than the largest of their operator that was timed; the larger where a
network must be exported for it, which takes as long as many measurements (in `tiny` nodes that far were off by a fifth)."""


def outsized_batches(
    space: SearchSpace, table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> Iterator[Callable[[], list[tuple[Node, float]]]]:
    """Calls that time a node each of `outsized`, or the network that it stands in; none where fewer than two were timed so
    far."""
    for node, member in outsized(space, table) if len(table.nodes) > 1 else ():
        if node.key in table.nodes:  # a network that was timed for another node brought it
            continue
        if in_place(table.target):
            yield partial(time_in_network, member, table, record, refuse)
        else:
            yield partial(time_repeated, [node], table, record, refuse)


def outsized(space: SearchSpace, table: LatencyTable) -> list[tuple[Node, Architecture]]:
    """The nodes to time, each with a member that has it: of every operator that was timed, from the largest such node to the
    largest of POOL members by estimate, at least by a step apart, the last one in any case; of all these the MOST largest."""
    owners, found = _pool(space, table)
    if not found:
        return []
    seconds = NodeTimes.fit(table)
    by_operator: dict[str, list[tuple[float, Node]]] = defaultdict(list)
    for node, estimate in zip(found, seconds(found), strict=True):
        by_operator[registered(node)].append((estimate.seconds, node))
    known = [item.node for item in table.nodes.values()]
    largest: dict[str, float] = defaultdict(float)
    for node, estimate in zip(known, seconds(known), strict=True):
        largest[registered(node)] = max(largest[registered(node)], estimate.seconds)
    step = STEP_EXPORTED if node_clock(table.target) == KERNELS else STEP
    chosen = [pair for label in largest.keys() & by_operator for pair in _steps(by_operator[label], largest[label], step)]
    return [(node, owners[node.key]) for _, node in sorted(chosen, key=_size, reverse=True)[:MOST]]


def _pool(space: SearchSpace, table: LatencyTable) -> tuple[dict[str, Architecture], list[Node]]:
    """A member for each node, by its key, and the distinct nodes of random members that the target runs."""
    owners: dict[str, Architecture] = {}
    found: dict[str, Node] = {}
    for index in range(POOL):
        member = space.sample(random.Random(f"{table.seed}:outsized:{index}"))
        if not operators_in(member).isdisjoint(table.refused):
            continue
        for node in nodes(member, None, table.in_channels, table.num_classes):
            if registered(node) and node.key not in owners:
                owners[node.key] = member
                found[node.key] = node
    return owners, list(found.values())


def _steps(items: list[tuple[float, Node]], known: float, step: float) -> list[tuple[float, Node]]:
    """Of nodes with their seconds the smallest that takes more than `step` times what is `known`, the smallest that takes more
    than `step` times that, and so on; and the largest, where it takes more than `step` times what is known."""
    ordered = sorted(items, key=_size)
    reach, chosen = step * known, []
    for item in ordered:
        if item[0] > reach:
            chosen.append(item)
            reach = step * item[0]
    if chosen and chosen[-1] is not ordered[-1]:
        chosen.append(ordered[-1])
    return chosen


def _size(item: tuple[float, Node]) -> tuple[float, str]:
    """By what nodes with their seconds are ordered."""
    return item[0], item[1].key
