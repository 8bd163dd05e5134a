"""Node times of every operator of a space: what random networks did not bring is looked for by name.

The latency predictor refuses operators without a time. Which ones random networks bring is a matter of luck, so a profile
also times a member of the space for each operator that is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

from nas.predictors.kernel_times import time_in_network
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import operators_of, registered
from nas.predictors.node_timing import Refuse, in_place, time_repeated, unlooked
from nas.predictors.samples import Record, unrecorded
from nas.search_spaces.architecture import Architecture, Op
from nas.search_spaces.exclusion import FIELDS
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.variation import random_genotype

ATTEMPTS = 20


def covering_batches(
    space: SearchSpace, table: LatencyTable, record: Record = unrecorded, refuse: Refuse = unlooked
) -> Iterator[Callable[[], list[tuple[Node, float]]]]:
    """Calls that time nodes with the operators that the table has no time of yet, one operator after another."""
    for label in sorted(operators_of_space(space) - table.excluded):
        if label in operators_of(table.nodes.values()):
            continue
        member = member_with(space, label, table.seed)
        if member is None:
            continue
        if in_place(table.target):
            yield partial(time_in_network, member, table, record, refuse)
        else:
            found = nodes(member, None, table.in_channels, table.num_classes)
            yield partial(time_repeated, [node for node in found if registered(node) == label], table, record, refuse)


def operators_of_space(space: SearchSpace) -> frozenset[str]:
    """The operators that a space lists, as `registered` names them; norms and residuals belong to the nodes they stand in."""
    found: set[str] = set()
    for kind, fields in FIELDS.items():
        if kind not in (Kind.NORM, Kind.RESIDUAL):
            for field in fields:
                found |= {f"{kind}:{name}" for name in _names(getattr(space, field))}
    return frozenset(found)


def member_with(space: SearchSpace, label: str, seed: int) -> Architecture | None:
    """A member that has an operator wherever it may stand; None where it fits nowhere."""
    name = label.partition(":")[2]
    for attempt in range(ATTEMPTS):
        genes = random_genotype(space, random.Random(f"{seed}:{label}:{attempt}"))
        for gene in space.genes:
            fitting = [choice for choice in gene.choices if isinstance(choice, str) and Op.parse(choice).name == name]
            if fitting:
                genes[gene.name] = fitting[0]
        member = space.decode(genes)
        if any(registered(node) == label for node in nodes(member)):
            return member
    return None


def _names(value: tuple[str, ...] | tuple[tuple[str, ...], ...]) -> set[str]:
    """The names in a field of a space, one tuple or one a stage."""
    return {Op.parse(text).name for item in value for text in (item if isinstance(item, tuple) else (item,))}
