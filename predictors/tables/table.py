"""What a table is once it is read: features of its architectures, and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.predictors.surrogates.layout import Integers, Layout
from nas.predictors.timings import Array

Kind = Literal["time", "rate", "accuracy"]
Split = Literal["rows", "share", "families"]


@dataclass(frozen=True, slots=True)
class Target:
    """A column to predict: what kind of number it is, the rows that have it (m,), and its values there (m,)."""

    name: str
    kind: Kind
    rows: Integers
    values: Array


@dataclass(frozen=True, slots=True)
class Table:
    """The architectures of a table as features (n, d) with their layout, its targets, and lines about what was left out.

    `twins` (n,) are numbers, the same for rows that are the same network, which a table may have measured more than once.
    `families` names what each row is akin to, where the table is one of published networks, and `split` says how rows are
    divided for training and test (see `splits`).
    """

    name: str
    features: Array
    layout: Layout
    targets: tuple[Target, ...]
    notes: tuple[str, ...]
    twins: Integers
    families: tuple[str, ...] = ()
    split: Split = "rows"

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(one for one in self.targets if one.name == name)


def same_rows(features: Array) -> Integers:
    """Numbers (n,), the same for equal rows of features (n, d)."""
    _, numbers = np.unique(features, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)
