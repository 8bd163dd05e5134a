"""Surrogates on tables: the jobs of the protocol (see `splits`), and the rows that come out of them.

Nothing of a test part is looked at before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas.errors import UsageError
from nas.predictors.assessment import assess
from nas.predictors.surrogates import ScaleName, surrogate
from nas.predictors.surrogates.base import LEAST_ROWS
from nas.predictors.surrogates.layout import PROXIES, Integers, Layout
from nas.predictors.surrogates.transfer import spread
from nas.predictors.tables.rows import CODE, CONTENT, code_digest, content_digest
from nas.predictors.tables.splits import TRAIN_PART, family_numbers, parts, train_part, training_rows
from nas.predictors.tables.table import Kind, Table, Target
from nas.predictors.timings import Array

TRANSFER = "transfer"
SOURCE_METHOD = "table_gp"


@dataclass(frozen=True, slots=True)
class Job:
    """One fit and its assessment: a target of a table, so many training rows of a permutation, a method."""

    table: str
    target: str
    train_size: int
    seed: int
    method: str


def jobs(tables: Sequence[Table], sizes: Sequence[int], seeds: int, methods: Sequence[str], transfer: int = 0) -> Iterator[Job]:
    """All jobs, small ones first, those of published networks once, whatever the sizes; with `transfer`, each device again from
    so many rows and the other devices' tables, where so many of its rows may train.

    Raises UsageError for a training size beyond the part that is kept for training.
    """
    if wrong := [size for size in (*sizes, transfer or sizes[0]) if not 5 <= size <= TRAIN_PART]:
        raise UsageError(
            f"training sizes lie between 5 and {TRAIN_PART}, got {wrong[0]}; rows beyond {TRAIN_PART} are the test part"
        )
    for place, size in enumerate(sizes):
        for seed in range(seeds):
            for table in tables:
                for target in table.targets if table.split == "rows" or place == 0 else ():
                    if number := training_rows(table, target, seed, size):
                        yield from (Job(table.name, target.name, number, seed, method) for method in methods)
    for seed in range(seeds if transfer else 0):
        for table in tables:
            known = devices(table)
            if len(known) > 1 and table.split == "rows":
                learnt = (target for target in known if training_rows(table, target, seed, transfer))
                yield from (Job(table.name, target.name, transfer, seed, TRANSFER) for target in learnt)


def devices(table: Table) -> list[Target]:
    """The targets that are devices, with rows enough for a surrogate."""
    return [target for target in table.targets if target.kind != "accuracy" and len(target.rows) >= LEAST_ROWS]


class Runner:
    """Does jobs on tables; what one device's table teaches is kept for the other devices of the same seed."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = {table.name: table for table in tables}
        self._sources: dict[tuple[str, str, int], Array] = {}
        self._contents: dict[tuple[str, str, bool], str] = {}

    def content(self, job: Job) -> str:
        """The digest of all that a job sees of its table."""
        table, transfer = self.tables[job.table], job.method == TRANSFER
        key = (job.table, job.target, transfer)
        if key not in self._contents:
            others = [one for one in devices(table) if transfer and one.name != job.target]
            self._contents[key] = content_digest(table, [table.target(job.target), *others])
        return self._contents[key]

    def run(self, job: Job) -> dict[str, Any]:
        """The row of a job: its fields, its figures, and the digests of code and table."""
        table = self.tables[job.table]
        target = table.target(job.target)
        features, layout = table.features, table.layout
        train, test = parts(table, target, job.seed, job.train_size)
        if job.method == TRANSFER:
            features, layout = self._with_sources(table, target, job.seed)
            pool = _pool(table, target, job.seed)
            train = pool[spread(layout.pick(features[target.rows[pool]], PROXIES), job.train_size)]
        kin = family_numbers(table, target) if table.split == "families" else None
        figures = _figures(job, features[target.rows], layout, target, train, test, kin)
        return {**asdict(job), **figures, CODE: code_digest(), CONTENT: self.content(job)}

    def _with_sources(self, table: Table, target: Target, seed: int) -> tuple[Array, Layout]:
        """The features of a table with what the other devices' surrogates predict, as proxies."""
        others = [one for one in devices(table) if one.name != target.name]
        known = np.stack([self._source(table, other, seed) for other in others], 1)
        return np.concatenate([table.features, known], 1), Layout((*table.layout.widths, (PROXIES, known.shape[1])))

    def _source(self, table: Table, target: Target, seed: int) -> Array:
        """Logarithms (rows of the table,) of a device's times as its surrogate predicts them from the training part."""
        key = (table.name, target.name, seed)
        if key not in self._sources:
            train = _pool(table, target, seed)
            model = surrogate(SOURCE_METHOD, layout=table.layout, scale="log", seed=seed)
            model.fit(table.features[target.rows[train]], as_fitted(target.values[train], target.kind))
            self._sources[key] = model.latent(table.features)[0]
        return self._sources[key]


def _pool(table: Table, target: Target, seed: int) -> Integers:
    """All the places in `target.rows` that may train; none of them tests."""
    return parts(table, target, seed, train_part(len(target.rows)))[0]


def scale_of(kind: Kind) -> ScaleName:
    """The scale on which a kind of target is fitted."""
    return "rank" if kind == "accuracy" else "log"


def as_fitted(values: Array, kind: Kind) -> Array:
    """Rates become times, which add up over a network; all else stays. Its own inverse."""
    return 1 / values if kind == "rate" else values


def _figures(
    job: Job, features: Array, layout: Layout, target: Target, train: Integers, test: Integers, kin: Integers | None
) -> dict[str, Any]:
    """The figures on the test rows of a fit to the training rows, in the target's own units."""
    model = surrogate(job.method, layout=layout, scale=scale_of(target.kind), seed=job.seed)
    model.fit(features[train], as_fitted(target.values[train], target.kind), None if kin is None else kin[train])
    ends = model.interval(features[test])
    mean, low, high = (as_fitted(values, target.kind) for values in ends)
    found = assess(mean, target.values[test], np.minimum(low, high), np.maximum(low, high)).to_mapping()
    names = ("mape", "within_5", "within_10", "spearman", "kendall", "coverage_90")
    return {name: round(float(found[name]), 6) for name in names}
