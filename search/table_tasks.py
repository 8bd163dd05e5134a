"""What is searched for in a table: tasks found from its columns, each a `Problem` with an evaluator and a known optimum."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.errors import NasError
from nas.quantities import format_time
from nas.search.archive import Archive
from nas.search.pareto import first_front, hypervolume_2d, hypervolume_3d, non_dominated_sort
from nas.search.table_space import Row, TableSpace
from nas.search.tables import Table
from nas.search.types import Budgets, Problem, Trial

Column = NDArray[np.float64]
BEST, FRONT, NOISY, FASTEST = "best", "front", "noisy", "fastest"
NEAR = 0.1
NEAR_FRONT = 0.99
NEAR_LATENCY = 1.01


@dataclass(frozen=True)
class Task:
    """One thing to search a table for.

    `kind` is BEST (the highest `objective`, within the budget if there is one), FRONT (the hypervolume of accuracy and the
    latency of `device`), NOISY (BEST, but an evaluation tells one training seed of `objective`, and what the strategy
    recommends is judged by the seeds that it did not see), or FASTEST (the lowest latency, in tables without an accuracy).
    `quantile` sets the latency budget: that share of all rows meets it. `other` makes a front one of accuracy and the
    latencies of two devices.
    """

    table: Table
    space: TableSpace
    kind: str
    objective: str
    device: str | None = None
    quantile: float | None = None
    other: str | None = None

    @property
    def name(self) -> str:
        """A stable name, by which a stored run is found again."""
        where = "" if self.device is None or self.kind == FASTEST else " " + " and ".join(self.devices)
        return f"{self.table.name} {self.kind} {self.objective}{where}" + (f" q{self.quantile:g}" if self.quantile else "")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices whose latencies play a part."""
        return tuple(device for device in (self.device, self.other) if device is not None)

    @cached_property
    def limit(self) -> float | None:
        """The latency budget in seconds."""
        if self.quantile is None or self.device is None:
            return None
        return float(np.nanquantile(self.table.latencies[self.device], self.quantile))

    @property
    def budget(self) -> str | None:
        """The budget as people read it."""
        return (
            None
            if self.limit is None
            else f"latency <= {format_time(self.limit)} on {self.device} ({self.quantile:.0%} of rows)"
        )

    @cached_property
    def values(self) -> Column:
        """The objective of every row, in the table's unit; of a noisy task the mean over its seeds."""
        if self.kind == FASTEST:
            return self.table.latencies[self.objective]
        if self.kind == NOISY:
            return np.mean(self.table.seeds[self.objective], axis=0)
        return self.table.accuracies[self.objective]

    @cached_property
    def scale(self) -> float:
        """What an accuracy is divided by to be a fraction: 100 for percent."""
        return 100.0 if np.nanmax(np.abs(self.values)) > 1.0 else 1.0

    @cached_property
    def legal(self) -> NDArray[np.bool_]:
        """Which rows have a value and meet the budget."""
        found = np.isfinite(self.values)
        return found if self.limit is None else found & (self.table.latencies[str(self.device)] <= self.limit)

    @cached_property
    def content(self) -> str:
        """A digest of what a run on this task sees of the table: the genes, the values, and the latencies of its device."""
        table = self.table
        values = list(table.seeds[self.objective]) if self.kind == NOISY else [self.values]
        latencies = [table.latencies[device] for device in self.devices]
        digest = blake2b(" ".join(table.gene_names).encode(), digest_size=8)
        for column in (table.genes, *values, *latencies):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    @property
    def playable(self) -> bool:
        """Whether there is an optimum to come near: some legal row, or a front of some extent."""
        return bool(self.legal.any()) and (self.kind != FRONT or self.optimum > 0.0)

    @cached_property
    def optimum(self) -> float:
        """The best value that a row within the budget has; the hypervolume of the whole table's front for a front."""
        if self.kind == FRONT:
            costs = np.stack([-self.values, *(self.table.latencies[device] for device in self.devices)], axis=1)
            finite = costs[np.isfinite(costs).all(axis=1)]
            return self.hypervolume(finite[first_front(finite)].tolist())
        legal = self.legal
        best = np.nanmin if self.kind == FASTEST else np.nanmax
        return float(best(self.values[legal]))

    @cached_property
    def target(self) -> float:
        """The value that counts as reached: within 0.1 point of the best, 99 % of the hypervolume, 101 % of the latency."""
        if self.kind == FRONT:
            return NEAR_FRONT * self.optimum
        return self.optimum * NEAR_LATENCY if self.kind == FASTEST else self.optimum - NEAR * self.scale / 100.0

    def reached(self, value: float) -> bool:
        """Whether a value of the curve is as good as the target."""
        return value <= self.target if self.kind == FASTEST else value >= self.target

    def fraction(self, value: float) -> float:
        """A value relative to the optimum, at most 1."""
        return self.optimum / value if self.kind == FASTEST else value / self.optimum

    def problem(self) -> Problem:
        """The problem that a strategy is given."""
        budgets = Budgets({} if self.limit is None else {"latency": self.limit})
        objectives = {FRONT: ("accuracy", *self.latencies), FASTEST: ("latency",)}.get(self.kind, ("accuracy",))
        return Problem(self.space, self.describe, budgets, objectives, repeats=1 if self.kind == NOISY else 0)

    @property
    def latencies(self) -> dict[str, str]:
        """By the name of each latency as a metric, its device."""
        if self.other is None:
            return {} if self.device is None else {"latency": self.device}
        return {f"latency@{device}": device for device in self.devices}

    def describe(self, row: Row) -> Mapping[str, float]:
        """The latencies, where the task has devices; a row without one breaks every budget."""
        if self.kind == FASTEST:
            return {}
        return {name: float(self.table.latencies[device][row.index]) for name, device in self.latencies.items()}

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """The corner that hypervolumes are measured from: the median accuracy and the highest latencies."""
        highest = (float(np.nanmax(self.table.latencies[device])) for device in self.devices)
        return (-float(np.nanmedian(self.values)), *highest)

    def hypervolume(self, points: Sequence[Sequence[float]]) -> float:
        """The area or volume that costs (minus the accuracy in the table's unit, latencies) dominate."""
        measure = hypervolume_2d if self.other is None else hypervolume_3d
        return measure([p for p in points if p[0] < self.reference[0]], self.reference)


class TableEvaluator:
    """Looks values up: the evaluator of a task. A noisy task's n-th trial of a row tells the n-th of its shuffled seeds."""

    def __init__(self, task: Task, seed: int, archive: Archive) -> None:
        self.task, self.seed, self.archive = task, seed, archive

    def __call__(self, architecture_json: str) -> Mapping[str, float]:
        """The accuracy as a fraction, or the latency in seconds. Raises NasError for a row that lacks it, or a seed of it."""
        task, row = self.task, self.task.space.from_json(architecture_json)
        value = float(task.values[row.index])
        if not math.isfinite(value):
            lacking = f"not every seed of {task.objective}" if task.kind == NOISY else f"no {task.objective}"
            raise NasError(f"row {row.index} of table {task.table.name!r} has {lacking}")
        if task.kind == NOISY:
            order = seed_order(task, self.seed, row)
            value = float(task.table.seeds[task.objective][order[self.archive.count(row.digest)]][row.index])
        return {"latency": value} if task.kind == FASTEST else {"accuracy": value / task.scale}


def seed_order(task: Task, seed: int, row: Row) -> list[int]:
    """The order in which a row's training seeds are told in a run."""
    order = list(range(len(task.table.seeds[task.objective])))
    random.Random(f"{seed}:{row.digest}").shuffle(order)
    return order


def judged(task: Task, seed: int, row: Row, seen: int) -> float:
    """The mean of a row's training seeds beyond the first `seen`, which took no part in its choice; NaN without any."""
    told = [float(task.table.seeds[task.objective][one][row.index]) for one in seed_order(task, seed, row)[seen:]]
    known = [value for value in told if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def front_curve(task: Task, trials: Sequence[Trial]) -> list[float]:
    """The hypervolume after each trial."""
    found: list[float] = []
    front: list[tuple[float, ...]] = []
    for trial in trials:
        told = [trial.metrics.get(name, math.nan) for name in task.latencies]
        if trial.complete and all(map(math.isfinite, told)):
            costs = [*front, (-trial.metrics["accuracy"] * task.scale, *told)]
            front = [costs[i] for i in non_dominated_sort(costs)[0]]
        found.append(task.hypervolume(front))
    return found


def tasks(tables: Sequence[Table], quantiles: Sequence[float]) -> Iterator[Task]:
    """All tasks of some tables: unconstrained, under each device's budgets, with noise where there are seeds, and fronts.

    Those without an optimum are left out: no row with a value meets the budget, or the front is a point.
    """
    return (task for table in tables for task in _tasks(table, quantiles) if task.playable)


def _tasks(table: Table, quantiles: Sequence[float]) -> Iterator[Task]:
    space = TableSpace(table.name, table.gene_names, table.genes)
    for objective in table.accuracies:
        yield Task(table, space, BEST, objective)
        for device in table.latencies:
            yield from (Task(table, space, BEST, objective, device, quantile) for quantile in quantiles)
    for objective, seeds in table.seeds.items():
        if len(seeds) > 2:
            yield Task(table, space, NOISY, objective)
    for objective in table.accuracies:
        yield from (Task(table, space, FRONT, objective, device) for device in table.latencies)
        if len(table.latencies) > 1:
            first, second = least_alike(table)
            yield Task(table, space, FRONT, objective, first, other=second)
    if not table.accuracies and not table.seeds:
        yield from (Task(table, space, FASTEST, device, device) for device in table.latencies)


def least_alike(table: Table) -> tuple[str, str]:
    """The two devices of a table that agree least on the order of its rows, by Spearman's correlation."""
    ranks = pd.DataFrame(table.latencies).rank()
    return min(itertools.combinations(table.latencies, 2), key=lambda pair: float(ranks[pair[0]].corr(ranks[pair[1]])))
