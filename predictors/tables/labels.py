"""Weisfeiler-Lehman label counts of small labelled graphs: the feature map of the subtree kernel.

Shervashidze et al. 2011, Weisfeiler-Lehman graph kernels, JMLR 12, section 3.1; for architectures Ru et al. 2021
(NAS-BOWL), arXiv:2006.07556, section 3. Directed: a node's new label is its own with the sorted labels of its
predecessors and, apart from them, of its successors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.predictors.timings import Array


@dataclass(frozen=True, slots=True)
class LabelledGraph:
    """A directed graph: the label of each node, and edges as pairs of node numbers."""

    labels: tuple[Hashable, ...]
    edges: tuple[tuple[int, int], ...]


def label_counts(graphs: Sequence[LabelledGraph], depth: int = 2, most: int = 300) -> Array:
    """Counts (n, labels) of the labels of all rounds up to `depth`: of the `most` labels that the most graphs carry."""
    names: dict[Hashable, int] = {}
    seen: dict[LabelledGraph, Counter[int]] = {}
    for graph in graphs:
        if graph not in seen:
            seen[graph] = _refined(graph, depth, names)
    carriers: Counter[int] = Counter()
    for graph in graphs:
        carriers.update(seen[graph].keys())
    columns = {label: index for index, (label, _) in enumerate(carriers.most_common(most))}
    counts = np.zeros((len(graphs), len(columns)))
    for row, graph in enumerate(graphs):
        for label, number in seen[graph].items():
            if label in columns:
                counts[row, columns[label]] = number
    return counts


def _refined(graph: LabelledGraph, depth: int, names: dict[Hashable, int]) -> Counter[int]:
    """How often each label occurs, over all rounds; `names` numbers the labels, and grows."""
    before: list[list[int]] = [[] for _ in graph.labels]
    after: list[list[int]] = [[] for _ in graph.labels]
    for source, target in graph.edges:
        before[target].append(source)
        after[source].append(target)
    labels = [names.setdefault((0, label), len(names)) for label in graph.labels]
    found = Counter(labels)
    for _ in range(depth):
        around = [
            (labels[i], tuple(sorted(labels[j] for j in before[i])), tuple(sorted(labels[j] for j in after[i])))
            for i in range(len(labels))
        ]
        labels = [names.setdefault(label, len(names)) for label in around]
        found.update(labels)
    return found
