"""What to measure next: networks that tell the most beside those that are measured already.

A correction is a regression on shares of operators and on sizes, so a network tells most where it lies farthest out of the
directions that the measured ones span (greedy D-optimal design; see `surrogates.transfer.spread`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

import numpy as np

from nas.predictors.corrections import OPERATORS, SIZE
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import NodeTimes
from nas.predictors.summaries import Summaries
from nas.predictors.surrogates.transfer import spread
from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.exclusion import operators_in
from nas.search_spaces.space import SearchSpace

POOL = 200
DIRECTIONS = 12
View = Callable[[Sequence[Architecture]], Array]


def informative(
    space: SearchSpace, view: View, measured: Sequence[Architecture], number: int, seed: int, unwanted: Collection[str] = ()
) -> list[Architecture]:
    """`number` random members to measure beside the `measured` ones, the most telling first; fewer in a tiny space.

    `view` gives the (n, columns) numbers by which architectures differ. None of the members has an operator that is
    `unwanted`, or a digest that is. Everything follows from the arguments.
    """
    have = {architecture.digest for architecture in measured} | set(unwanted)
    pool: list[Architecture] = []
    for index in range(POOL):
        member = space.sample(random.Random(f"{seed}:pool:{index}"))
        if member.digest not in have and operators_in(member).isdisjoint(unwanted):
            have.add(member.digest)
            pool.append(member)
    rows = standard(view([*measured, *pool]))
    chosen = spread(rows, min(number, len(pool)), len(measured), DIRECTIONS)
    return [pool[row - len(measured)] for row in chosen]


def view_of(table: LatencyTable) -> View:
    """Shares of the time by operator, and the size of the whole, by a table's node times. Raises what `NodeTimes.fit` does."""
    summaries = Summaries(table, NodeTimes.fit(table))

    def view(architectures: Sequence[Architecture]) -> Array:
        summary, _ = summaries(architectures)
        shares = summary.layout.pick(summary.columns, OPERATORS) / summary.seconds[:, None]
        return np.concatenate([shares, summary.layout.pick(summary.columns, SIZE)[:, :2]], 1)

    return view


def standard(rows: Array) -> Array:
    """Columns of mean 0 and deviation 1; those that do not vary are 0."""
    deviation = rows.std(0)
    return np.asarray((rows - rows.mean(0)) / np.where(deviation > 1e-9, deviation, np.inf))
