"""Numbers that describe nodes to a Gaussian process, beside the time that their work is priced at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nas.predictors.roofline import Roofline
from nas.predictors.surrogates.layout import Layout
from nas.predictors.timings import Array
from nas.predictors.work import RESOURCES
from nas.predictors.work_laws import VECTOR, work
from nas.search_spaces.graph import Node

SIZES, SETTINGS, LABELS, SHARES = "sizes", "settings", "labels", "shares"
LENGTHS = 3
"""So many of the first columns are logarithms of sides and widths."""
TIMES = 0.3
"""What the logarithm of the whole time counts for beside the square roots of the shares."""


@dataclass(frozen=True)
class NodeFeatures:
    """Operator, norm, sizes, settings, and what each resource takes of the priced time. Columns follow from known nodes."""

    labels: tuple[str, ...]
    settings: tuple[str, ...]
    roofline: Roofline

    @classmethod
    def of(cls, known: Sequence[Node], seconds: Array) -> Self:
        """The columns that tell the known nodes apart, and the prices by which their work takes `seconds` (n,)."""
        labels = {label for node in known for label in _labels(node)}
        settings = {name for node in known for name, value in node.settings if not isinstance(value, str)}
        return cls(tuple(sorted(labels)), tuple(sorted(settings)), Roofline.fit(work(known), seconds))

    @property
    def layout(self) -> Layout:
        """The groups of the columns."""
        shares = len(RESOURCES) + 2
        return Layout(((SIZES, 5), (SETTINGS, len(self.settings)), (LABELS, 4 * len(self.labels)), (SHARES, shares)))

    def __call__(self, items: Sequence[Node]) -> tuple[Array, Array]:
        """One row a node, (n, columns), and the logarithms of the seconds that their work is priced at, (n,)."""
        amounts = work(items)
        expected = np.log(self.roofline(amounts))
        rows = np.array([self._row(node) for node in items], float)
        return np.concatenate([rows, np.sqrt(self.roofline.shares(amounts)), TIMES * expected[:, None]], 1), expected

    def _row(self, node: Node) -> list[float]:
        labels, settings = _labels(node), dict(node.settings)
        side, width, out_width = math.log(node.in_shape[0]), math.log(node.in_shape[2]), math.log(node.out_shape[2])
        row = [side, width, out_width, 2 * side + width, 2 * side + width + out_width]  # the first LENGTHS are plain sizes
        row += [_size(settings.get(name, 0)) for name in self.settings]
        ragged = float(node.in_shape[2] % VECTOR > 0)
        for label in self.labels:
            row += [1.0, side - 2, width - 4, ragged] if label in labels else [0.0] * 4
        return row


def _size(value: object) -> float:
    """The logarithm of a setting beyond one, with its sign; 0 for words, which are labels."""
    return math.copysign(math.log1p(abs(value)), value) if isinstance(value, (int, float)) else 0.0


def operator_label(node: Node) -> str:
    """Kind and operator: what a node does."""
    return f"{node.kind}:{node.operator}"


def _labels(node: Node) -> set[str]:
    texts = {f"{operator_label(node)}:{name}={value}" for name, value in node.settings if isinstance(value, str)}
    return texts | {operator_label(node), f"norm:{node.norm}"}
