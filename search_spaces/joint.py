"""Two mixers side by side read the same genes where their settings have the same name: what pairs of settings that leaves.

Settings that no shared name connects, directly or through a rule, are counted and looked for apart.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.search_spaces.independence import Divided, Part
from nas.search_spaces.registry import Value

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

Values = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Parts of two mixers that `shared` settings connect, or a part of one of them that nothing does."""

    parts: tuple[Part, ...]
    shared: tuple[str, ...]


def joint_ways(space: SearchSpace, stage: int, first: Divided, second: Divided) -> int:
    """The number of distinct settings of two mixers of a stage, each at its place."""
    known = space.independence.joint
    key = (space.genes_like[stage], first.signature, second.signature)
    if key not in known:
        both = first.ways and second.ways
        known[key] = math.prod(_ways(space, stage, group) for group in groups(space, first, second)) if both else 0
    return known[key]


def groups(space: SearchSpace, first: Divided, second: Divided) -> list[Group]:
    """The settings of two mixers in groups that do not depend on each other."""
    both = space.independence.searched(first) & space.independence.searched(second)
    found: list[Group] = []
    for part in (*first.parts, *second.parts):
        joined, names, rest = [part], both.intersection(part.names), []
        for group in found:
            if names.isdisjoint(group.shared):
                rest.append(group)
            else:
                joined, names = [*group.parts, *joined], names.union(group.shared)
        found = [*rest, Group(tuple(joined), tuple(sorted(names)))]
    return found


def _ways(space: SearchSpace, stage: int, group: Group) -> int:
    """The number of distinct values of all parts of a group that some values of the shared genes are repaired to."""
    if not group.shared:
        return math.prod(len(part.legal) for part in group.parts)
    genes = space.setting_genes[stage]
    found: set[tuple[Values, ...]] = set()
    for values in itertools.product(*(genes[name] for name in group.shared)):
        wanted = dict(zip(group.shared, values, strict=True))
        found.update(itertools.product(*(_reached(space, part, wanted) for part in group.parts)))
    return len(found)


def _reached(space: SearchSpace, part: Part, wanted: dict[str, Value]) -> frozenset[Values]:
    """What the values of a part are repaired to, given those of some of its settings, whatever the others are."""
    mine = {name: value for name, value in wanted.items() if name in part.names}
    key = (part, tuple((name, value, type(value)) for name, value in mine.items()))
    known = space.independence.reached
    if key not in known:
        options = space.independence.options(part.kind, part.operator)
        own = [name for name in part.names if name not in mine]
        every = itertools.product(*(options[name] for name in own))
        known[key] = frozenset(part.repair({**mine, **dict(zip(own, values, strict=True))}) for values in every)
    return known[key]
