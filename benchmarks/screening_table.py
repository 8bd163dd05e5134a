"""The members of a table of `screening_scores.py` as a space, and searches played on it with cheap scores first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_supernet import spread, whole_lines

import nas.search.strategy as strategies
from nas.search.archive import MEMORY, Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.screening import Screening
from nas.search.table_space import Row, TableSpace
from nas.search.types import Budgets, Problem, Trial
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace

FULL, ACCURACY, LOSS = "full", "accuracy", "loss"
COUNTS = ("macs", "params")
COSTS = (10, 20, 40)
"""Full scores' worth of cost at which the best accuracy is told; a search ends at the last."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """What candidates are screened by: nothing (`full`), accuracy or loss on `few` images, or a proxy."""

    name: str
    few: int = 0
    promote: float = 1.0

    def __str__(self) -> str:
        return f"{self.name} of {self.few}" if self.name in (ACCURACY, LOSS) else self.name


@dataclass(frozen=True)
class Curve:
    """The candidates of one search: what each cost by images and by seconds, and the best accuracy in full so far."""

    images: Array
    seconds: Array
    best: Array
    full: int

    def at(self, cost: Array, limit: float) -> float:
        """The best accuracy that `limit` pays for."""
        paid = int(np.searchsorted(np.cumsum(cost), limit, side="right"))
        return float(self.best[paid - 1]) if paid else math.nan


class Table:
    """The members of a file of `screening_scores.py`, as a space, with what scoring them gives and costs."""

    def __init__(self, path: Path) -> None:
        self.about, *self.rows = whole_lines(path)
        self.images = int(self.about["images"])
        space = SearchSpace.from_mapping(self.about["space"])
        codes = [encoded(space, Architecture.from_json(row["architecture"])) for row in self.rows]
        self.space = TableSpace("screening", tuple(gene.name for gene in space.genes), np.array(codes))
        bits = [np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))[: self.images] for row in self.rows]
        self.right, self.losses = np.array(bits, float), np.array([row["losses"] for row in self.rows])
        self.accuracy = self.right.mean(1)

    def seconds(self, part: str) -> Array:
        """Processor seconds of a part of scoring, member by member."""
        return np.array([row["seconds"][part] for row in self.rows])

    @cached_property
    def full_seconds(self) -> Array:
        """What scoring a member on all images takes."""
        return self.seconds("extract") + self.seconds("calibrate") + self.seconds("images")

    def proxies(self, weights: str) -> list[str]:
        """The proxies that all members have, or that some have with fresh weights."""
        return sorted(self.rows[0][weights])

    def cheap(self, way: Way, weights: str = "inherited") -> tuple[Array, Array]:
        """The cheap score of each member that has it, higher being better, and the seconds it takes of its own."""
        if way.name in (ACCURACY, LOSS):
            chosen = spread(self.images, way.few).numpy()
            values = self.right[:, chosen].mean(1) if way.name == ACCURACY else -self.losses[:, chosen].mean(1)
            return values, self.seconds("images") * way.few / self.images
        if way.name in COUNTS:
            return np.array([row["sizes"][way.name] for row in self.rows]), np.zeros(len(self.rows))
        found = [row[weights][way.name] for row in self.rows if row[weights]]
        return np.array([value for value, _ in found]), np.array([seconds for _, seconds in found])

    def problem(self, share: float) -> Problem:
        """The table without a budget, or under one on MACs that a share of the members meet."""
        macs = np.array([row["sizes"]["macs"] for row in self.rows])
        budgets = Budgets({"macs": float(np.quantile(macs, share))} if share < 1.0 else {})
        return Problem(self.space, lambda member: {"macs": float(macs[member.index])}, budgets)

    def play(self, way: Way, strategy: str, seed: int, share: float) -> Curve:
        """One search until 40 full scores are paid for by either cost, or all members are known."""
        problem = self.problem(share)
        images, seconds = self.costs(way)
        with Archive(MEMORY, self.space, problem.objectives) as archive:
            counted: list[int] = []
            paid = np.zeros(2)

            def spent() -> bool:
                for trial in archive.trials()[len(counted) :]:
                    counted.append(trial.number)
                    index, full = trial.architecture.index, int(trial.full)
                    paid[:] += images[full][index] / self.images, seconds[full][index] / self.full_seconds.mean()
                return bool(paid.min() >= COSTS[-1])

            screening = None if way.name == FULL else Screening(way.promote)
            found, executor = strategies.create(strategy, problem, seed), LocalExecutor(self.evaluator(way))
            run_search(problem, found, archive, executor, evaluations=len(self.rows), should_stop=spent, screening=screening)
            trials = archive.trials()
        return curve(trials, images, seconds)

    def costs(self, way: Way) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Images and seconds of each member, turned down by its cheap score and scored in full."""
        all_images = np.full(len(self.rows), float(self.images))
        if way.name == FULL:
            return (all_images, all_images), (self.full_seconds, self.full_seconds)
        _, own = self.cheap(way)
        by_images = way.name in (ACCURACY, LOSS)
        looked = np.full(len(self.rows), float(way.few if by_images else 0))
        first = self.seconds("extract") * (way.name not in COUNTS) + self.seconds("calibrate") * by_images + own
        return (looked, all_images), (first, self.full_seconds + (0.0 if by_images else own))

    def evaluator(self, way: Way) -> Any:
        """What answers as `SupernetEvaluator` would."""
        cheap = None if way.name == FULL else self.cheap(way)[0]
        by_images = way.name in (ACCURACY, LOSS)
        few = self.right[:, spread(self.images, max(1, way.few)).numpy()].mean(1)

        def evaluate(text: str, bar: float = -math.inf) -> Mapping[str, float]:
            index = self.space.from_json(text).index
            guess = {} if cheap is None else {"screening": float(cheap[index])}
            if cheap is None or cheap[index] >= bar:
                return {**guess, "accuracy": float(self.accuracy[index]), "fidelity": 1.0}
            return {**guess, "accuracy": float(few[index]), "fidelity": 0.5} if by_images else {**guess, "fidelity": 0.0}

        return evaluate


def encoded(space: SearchSpace, architecture: Architecture) -> list[int]:
    """The genes of an architecture as whole numbers: their own where they are ordered numbers, else their places."""
    genes = space.encode(architecture)
    own = [gene.ordered and all(type(choice) is int for choice in gene.choices) for gene in space.genes]
    return [
        int(genes[gene.name]) if plain else gene.choices.index(genes[gene.name])
        for gene, plain in zip(space.genes, own, strict=True)
    ]


def curve(trials: list[Trial], images: tuple[Array, Array], seconds: tuple[Array, Array]) -> Curve:
    """What a search had paid and found after each candidate."""
    members: list[Row] = [trial.architecture for trial in trials]  # type: ignore[misc]
    at = [(int(trial.full), member.index) for trial, member in zip(trials, members, strict=True)]
    best = np.maximum.accumulate([trial.metrics["accuracy"] if trial.full else 0.0 for trial in trials])
    paid = (np.array([cost[full][index] for full, index in at]) for cost in (images, seconds))
    return Curve(*paid, best, sum(trial.full for trial in trials))
