"""Which columns of a feature array mean what, so that each part of a surrogate can look at the ones it is made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.predictors.timings import Array

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

COUNTS = "counts"
"""How often each operator is there at all: few numbers, whose weighted sum is the plainest model of a cost."""
AMOUNTS = "amounts"
"""Further non-negative amounts that may be part of that sum: live operators, MACs by operator."""
STAGES = "stages"
"""Amounts by place: finer than `amounts`, coarser than `choices`."""
CHOICES = "choices"
"""One column for each choice at each place."""
SUMMARY = "summary"
"""A few numbers on the whole network, to which the target may be related in any smooth way."""
LABELS = "labels"
"""Counts of Weisfeiler-Lehman labels."""
PROXIES = "proxies"
"""Zero-cost proxies, or whatever else is known of the network."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Groups of columns, in their order: name and width of each."""

    widths: tuple[tuple[str, int], ...]

    @classmethod
    def whole(cls, width: int) -> Self:
        """The layout of columns of which nothing is known: a part that asks for any other group gets all of them."""
        return cls(((SUMMARY, width),))

    @property
    def width(self) -> int:
        """Columns in all."""
        return sum(width for _, width in self.widths)

    @property
    def names(self) -> tuple[str, ...]:
        """The groups that have columns."""
        return tuple(name for name, width in self.widths if width)

    def pick(self, features: Array, *names: str) -> Array:
        """The columns (n, ...) of the groups of those names that exist; all columns where none of them does.

        Raises UsageError for features (n, d) of another width than the layout's.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            raise UsageError(f"features must be (n, {self.width}) as their layout says, got {features.shape}")
        found, start = [], 0
        for name, width in self.widths:
            if name in names and width:
                found.append(features[:, start : start + width])
            start += width
        return np.concatenate(found, 1) if found else features


def join(groups: Mapping[str, Iterable[Array]]) -> tuple[Array, Layout]:
    """One float array (n, d) of the parts (n, ...) of each group, and its layout. Groups without parts and columns
    that never vary are left out."""
    arrays: list[Array] = []
    widths: list[tuple[str, int]] = []
    for name, parts in ((name, list(parts)) for name, parts in groups.items()):
        if not parts:
            continue
        array = np.concatenate([np.asarray(part, np.float64).reshape(len(part), -1) for part in parts], 1)
        array = array[:, np.ptp(array, axis=0) > 0]
        arrays.append(array)
        widths.append((name, array.shape[1]))
    return np.concatenate(arrays, 1), Layout(tuple(widths))
