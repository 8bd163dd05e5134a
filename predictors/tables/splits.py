"""Which rows of a table train and which test.

Tables of one space: `permutation = numpy.random.default_rng(seed).permutation(n)` over the rows that have the target; the
first N train, `permutation[900:]` is the test part, whatever N, so that all training sizes are judged by the same networks;
of tables that have no more rows than that, from `permutation[200:]` on.
Tables of published networks: four fifths of the rows train; or four fifths of the families, in the order of the same
permutation of their sorted names, so that no network that is tested has a relative among those that train.
"""

from __future__ import annotations

import numpy as np

from nas.predictors.surrogates.base import LEAST_ROWS
from nas.predictors.surrogates.layout import Integers
from nas.predictors.tables.table import Table, Target

TRAIN_PART, SMALL_TRAIN_PART = 900, 200
SHARE = 0.8


def training_rows(table: Table, target: Target, seed: int, size: int) -> int:
    """How many rows train where `size` are asked for; 0 for a table that leaves too few for the test."""
    if table.split == "rows" and size > train_part(len(target.rows)):
        return 0
    train, test = parts(table, target, seed, size)
    return len(train) if len(test) > 1 and len(train) >= LEAST_ROWS else 0


def train_part(number: int) -> int:
    """How many of so many rows may train."""
    return TRAIN_PART if number > TRAIN_PART + 1 else SMALL_TRAIN_PART


def parts(table: Table, target: Target, seed: int, size: int) -> tuple[Integers, Integers]:
    """Places in `target.rows` that train, and those that test. `size` counts for tables of one space alone."""
    random = np.random.default_rng(seed)
    number = len(target.rows)
    if table.split != "families":
        order = random.permutation(number)
        end, start = (size, train_part(number)) if table.split == "rows" else (round(SHARE * number),) * 2
        return order[:end], order[start:]
    mine = family_numbers(table, target)
    order = random.permutation(int(mine.max()) + 1)
    tested = np.isin(mine, order[round(SHARE * len(order)) :])
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def family_numbers(table: Table, target: Target) -> Integers:
    """The family (m,) of each of the target's rows, by its place in the order of their names."""
    _, numbers = np.unique([table.families[row] for row in target.rows], return_inverse=True)
    return numbers.astype(np.int64)
