"""Cells whose operators sit on the edges of a complete acyclic graph, as in NAS-Bench-201 (arXiv:2001.00326).

A column `e12` holds the operator on the edge from node 1 to node 2: 0 none, 1 skip, the rest what computes. A branch that
does not reach the output, or that nothing reaches, is dead: some runtimes leave it out, some do not, so amounts are counted
both ways. Rows without any path are no networks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.predictors.surrogates.layout import AMOUNTS, CHOICES, COUNTS, LABELS, SUMMARY, Integers
from nas.predictors.tables.labels import LabelledGraph, label_counts
from nas.predictors.tables.structures.base import Encoded, register_structure
from nas.predictors.timings import Array

NONE, SKIP = 0, 1
Edge = tuple[int, int]


def _edges(columns: Sequence[str]) -> list[Edge] | None:
    """The edges that the columns name, where they are those of a complete acyclic graph."""
    found = [(int(name[1]), int(name[2])) for name in columns if re.fullmatch(r"e\d\d", name)]
    nodes = max((target for _, target in found), default=0) + 1
    complete = set(itertools.combinations(range(nodes), 2))
    return found if len(found) == len(columns) and nodes > 1 and set(found) == complete else None


@dataclass(frozen=True)
class Cell:
    """One cell: its operators on the edges that have one."""

    operators: tuple[tuple[Edge, int], ...]
    last: int

    @cached_property
    def live(self) -> dict[Edge, int]:
        """The operators on some path from the first node to the last."""
        on = {edge for path in self.paths for edge in itertools.pairwise(path)}
        return {edge: operator for edge, operator in self.operators if edge in on}

    def reaching(self, forward: bool) -> dict[Edge, int]:
        """The operators whose source is reached from the first node, or else whose target reaches the last."""
        edges = sorted(self.operators, reverse=not forward)
        reached = {0 if forward else self.last}
        found = {}
        for (source, target), operator in edges:
            here, there = (source, target) if forward else (target, source)
            if here in reached:
                reached.add(there)
                found[source, target] = operator
        return found

    @cached_property
    def paths(self) -> list[tuple[int, ...]]:
        """All paths from the first node to the last, as nodes."""
        after: dict[int, list[int]] = {}
        for (source, target), _ in self.operators:
            after.setdefault(source, []).append(target)
        found: list[tuple[int, ...]] = []
        open_: list[tuple[int, ...]] = [(0,)]
        while open_:
            path = open_.pop()
            if path[-1] == self.last:
                found.append(path)
            else:
                open_ += [(*path, target) for target in after.get(path[-1], ())]
        return found

    @cached_property
    def words(self) -> list[tuple[int, ...]]:
        """The operators along each path, skips left out."""
        return [tuple(self.live[edge] for edge in itertools.pairwise(path) if self.live[edge] != SKIP) for path in self.paths]

    def summary(self, kinds: Sequence[int]) -> list[float]:
        """Critical paths, shortest path, joins, live edges, paths; of each kind the most along one path, and reach."""
        entering = [sum(target == node for _, target in self.live) for node in range(1, self.last + 1)]
        lengths = [len(word) for word in self.words]
        computing = [sum(op in kinds[:-1] for op in word) for word in self.words]
        on_paths = [[word.count(kind) for word in self.words] for kind in kinds]
        return [
            max(lengths), min(lengths), float(np.mean(lengths)), max(computing), min(computing), len(lengths),
            sum(max(0, number - 1) for number in entering), len(self.live), sum(number > 0 for number in entering),
            lengths.count(0), *(max(counts) for counts in on_paths), *(sum(counts) for counts in on_paths),
            *(min(counts) for counts in on_paths),
        ]  # fmt: skip

    def graph(self) -> LabelledGraph:
        """The live operators as nodes, skips contracted, between an input and an output."""
        place = {node: node for node in range(self.last + 1)}
        for (source, target), operator in sorted(self.live.items()):
            entering = [edge for edge in self.live if edge[1] == target]
            if operator == SKIP and len(entering) == 1:
                place[target] = place[source]
        kept = [(edge, op) for edge, op in sorted(self.live.items()) if place[edge[0]] != place[edge[1]] or op != SKIP]
        joins = sorted({place[node] for edge, _ in kept for node in edge} | {0})
        labels: list[Hashable] = [("join", node == 0, node == place[self.last]) for node in joins]
        edges: list[Edge] = []
        for (source, target), operator in kept:
            edges += [(joins.index(place[source]), len(labels)), (len(labels), joins.index(place[target]))]
            labels.append(operator)
        return LabelledGraph(tuple(labels), tuple(edges))


@register_structure("cells", matches=lambda columns: _edges(columns) is not None)
def cells(architecture: Mapping[str, Array], sizes: Mapping[str, Array]) -> Encoded:
    """Counts of all and of live operators, critical paths, path words and Weisfeiler-Lehman labels of the live graph."""
    edges = _edges(list(architecture)) or []
    codes = np.stack([architecture[f"e{a}{b}"] for a, b in edges], 1).astype(int)
    kinds = [int(kind) for kind in np.unique(codes) if kind > SKIP]
    last = max(target for _, target in edges)
    made = [Cell(tuple((edge, op) for edge, op in zip(edges, row, strict=True) if op != NONE), last) for row in codes.tolist()]
    valid = np.array([bool(cell.paths) for cell in made])
    empty = Cell((((0, last), SKIP),), last)
    made = [cell if cell.paths else empty for cell in made]
    live = np.array([[cell.live.get(edge, NONE) for edge in edges] for cell in made])
    all_counts = np.stack([(codes == kind).sum(1) for kind in (NONE, SKIP, *kinds)], 1)
    live_counts = np.stack([(live == kind).sum(1) for kind in (SKIP, *kinds)], 1)
    sides = [np.array([[c.reaching(side).get(edge, NONE) for edge in edges] for c in made]) for side in (True, False)]
    half = [np.stack([(x == kind).sum(1) for kind in (SKIP, *kinds)], 1) for x in sides]
    summary = np.array([cell.summary(kinds) for cell in made], np.float64)
    one_hot = np.concatenate([x == kind for kind in (SKIP, *kinds) for x in (codes, live, sides[1])], 1)
    words = [LabelledGraph(tuple(cell.words), ()) for cell in made]
    groups = {
        COUNTS: [all_counts],
        AMOUNTS: [live_counts, *half, summary[:, 6]],
        CHOICES: [one_hot],
        SUMMARY: [live_counts, summary, *(np.log(np.maximum(size, 1e-3)) for size in sizes.values())],
        LABELS: [label_counts([cell.graph() for cell in made], 2), label_counts(words, 0)],
    }
    without = int((~valid).sum())
    note = f"{without} cells without a path from input to output are left out" if without else ""
    return Encoded(groups, valid, note, _twins(codes, edges, last))


def _twins(codes: Integers, edges: Sequence[Edge], last: int) -> Integers:
    """Numbers (n,), the same for cells that run the same operators and only number their inner nodes otherwise."""
    smallest = _as_numbers(codes)
    for order in itertools.permutations(range(1, last)):
        place = (0, *order, last)
        forward = np.array([place[source] < place[target] for source, target in edges])
        allowed = (codes[:, ~forward] == NONE).all(1)
        renamed = np.zeros_like(codes)
        for column, (source, target) in enumerate(edges):
            if forward[column]:
                renamed[:, edges.index((place[source], place[target]))] = codes[:, column]
        smallest = np.where(allowed, np.minimum(smallest, _as_numbers(renamed)), smallest)
    return smallest


def _as_numbers(codes: Integers) -> Integers:
    """Each row of codes (n, k) as one number (n,)."""
    return np.asarray(codes @ (int(codes.max()) + 1) ** np.arange(codes.shape[1]), np.int64)
