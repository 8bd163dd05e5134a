"""Members of a space as numbers for a surrogate: their genes, and Weisfeiler-Lehman counts of their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from nas.predictors.surrogates import Layout
from nas.predictors.surrogates.layout import CHOICES, LABELS
from nas.search.space import Space
from nas.search_spaces.registry import Value

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
BINS = 96
DEPTH = 2
KEPT = 20_000
_GRAPHS: dict[str, NDArray[np.float64]] = {}
"""Graph features by digest, which names a graph whatever the space: runs on one table need not compute them anew."""


class Encoding:
    """Codes (the index of each gene's choice), gene features of codes, and graph features of members.

    Gene features: a kind is one-hot; an ordered gene is the thermometer of its choice, so that neighbouring choices are near.
    Either way two members that differ in one gene by one choice are at most sqrt(2) apart. Genes without a choice are left
    out. What was computed for a member is kept by its digest.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.choices = {gene.name: gene.choices for gene in space.genes}
        self.active = [gene for gene in space.genes if len(gene.choices) > 1]
        self.counts = np.array([len(gene.choices) for gene in self.active])
        self._index = {gene.name: {choice: i for i, choice in enumerate(gene.choices)} for gene in self.active}
        self._tables = [_thermometer(len(g.choices)) if g.ordered else np.eye(len(g.choices)) for g in self.active]
        self.width = sum(table.shape[1] for table in self._tables) or 1
        self._codes: dict[str, Codes] = {}
        self._decoded = lru_cache(maxsize=KEPT)(self._decode)

    def codes(self, members: Sequence[Any]) -> Codes:
        """The codes of members, (members, genes with a choice)."""
        return np.array([self._code(member) for member in members], dtype=np.int64).reshape(len(members), len(self.active))

    def _code(self, member: Any) -> Codes:
        found = self._codes.get(member.digest)
        if found is None:
            genotype = self.space.encode(member)
            found = np.array([index[genotype[name]] for name, index in self._index.items()], dtype=np.int64)
            self._codes[member.digest] = found
        return found

    def decode(self, code: Codes) -> Any:
        """The member of a row of codes, or the one nearest to it."""
        return self._decoded(tuple(code.tolist()))

    def _decode(self, code: tuple[int, ...]) -> Any:
        chosen: dict[str, Value] = {name: choices[0] for name, choices in self.choices.items()}
        chosen.update({gene.name: gene.choices[value] for gene, value in zip(self.active, code, strict=True)})
        return self.space.decode(chosen)

    def genes(self, codes: Codes) -> Array:
        """Gene features (members, width) of codes."""
        if not self._tables:
            return np.zeros((len(codes), 1))
        return np.concatenate([table[codes[:, i]] for i, table in enumerate(self._tables)], axis=1)

    def rounded(self, features: Array) -> Codes:
        """The codes whose gene features are nearest to `features` (n, width), gene by gene."""
        found, start = np.zeros((len(features), len(self._tables)), dtype=np.int64), 0
        for i, table in enumerate(self._tables):
            part = features[:, start : start + table.shape[1]]
            found[:, i] = ((part[:, None] - table[None]) ** 2).sum(axis=2).argmin(axis=1)
            start += table.shape[1]
        return found

    @property
    def layout(self) -> Layout:
        """What the columns of `features` are, for the surrogates of `nas.predictors`."""
        return Layout(((CHOICES, self.width), (LABELS, BINS)))

    def features(self, members: Sequence[Any]) -> Array:
        """Gene features and then graph features (members, width + BINS)."""
        return np.concatenate([self.genes(self.codes(members)), self.graphs(members)], axis=1)

    def graphs(self, members: Sequence[Any]) -> Array:
        """Weisfeiler-Lehman features (members, BINS), each of length one."""
        return np.array([self._graph(member) for member in members]).reshape(len(members), BINS)

    def _graph(self, member: Any) -> Array:
        found = _GRAPHS.get(member.digest)
        if found is None:
            counts = weisfeiler_lehman(self.space.graph(member))
            found = counts / max(float(np.linalg.norm(counts)), 1e-12)
            if len(_GRAPHS) >= KEPT:
                del _GRAPHS[next(iter(_GRAPHS))]
            _GRAPHS[member.digest] = found
        return found


def _thermometer(count: int) -> Array:
    return np.tril(np.ones((count, count)), 0)[:, 1:]


def weisfeiler_lehman(graph: nx.DiGraph, depth: int = DEPTH) -> Array:
    """How often each label occurs in a graph, (BINS,): operators, then operators with what feeds them, `depth` times over.

    Shervashidze et al. 2011, "Weisfeiler-Lehman Graph Kernels"; as a kernel between architectures in Ru et al. 2021,
    "Interpretable Neural Architecture Search via Bayesian Optimisation with Weisfeiler-Lehman Kernels", arXiv:2006.07556.
    Labels are hashed into a fixed number of bins, so that features need no dictionary shared by all members.
    """
    labels = {node: str(operator) for node, operator in graph.nodes(data="operator")}
    feeds = {node: list(graph.predecessors(node)) for node in graph}
    counts = np.zeros(BINS)
    for level in range(depth + 1):
        for label in labels.values():
            counts[_bin(f"{level}{label}")] += 1.0
        if level < depth:
            labels = {node: f"{label}({','.join(sorted(labels[f] for f in feeds[node]))})" for node, label in labels.items()}
    return counts


@lru_cache(maxsize=100_000)
def _bin(label: str) -> int:
    return int.from_bytes(blake2b(label.encode(), digest_size=4).digest(), "big") % BINS
