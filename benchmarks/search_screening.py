"""What screening spares: the best accuracy after the same cost, with cheap scores first and without.

    python benchmarks/screening_scores.py --run runs/super --out runs/screening       # the table, see there
    python benchmarks/search_screening.py --scores runs/screening/scores.jsonl

Plays `nas search`'s loop, archive, strategies and screening on the members of the table. Scored in full means on all images of
the table, and the accuracy that counts is that one. Cost is told in full scores of an average member, by images and by
processor seconds (extraction, proxy, calibration and scoring, as each member's were measured). Writes
benchmarks/results/search_screening.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from search_supernet import RESULTS, interval, spread, whole_lines

import nas.search.strategy as strategies
from nas.predictors.environment import environment
from nas.search.archive import MEMORY, Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.screening import Screening
from nas.search.table_space import Row, TableSpace
from nas.search.types import Budgets, Problem, Trial
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace

FULL, ACCURACY, LOSS = "full", "accuracy", "loss"
COSTS = (10, 20, 40)
"""Full scores' worth of cost at which the best accuracy is told."""
SEEDS = {"random": 20, "evolution": 10, "bo": 5}
"""Searches by each strategy; all but random search play the ways of `FEWER` alone."""
FEWER = ("full", "loss of 64", "accuracy of 64", "naswot")
PROMOTED = (0.25, 0.5)
FEW = (32, 64, 128)
COUNTS = ("macs", "params")

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


def ways(table: Table) -> list[Way]:
    """Everything that is compared."""
    scored = [Way(name, few, PROMOTED[0]) for name in (ACCURACY, LOSS) for few in FEW]
    looser = [Way(name, FEW[1], PROMOTED[1]) for name in (ACCURACY, LOSS)]
    return [Way(FULL), *scored, *looser, *(Way(name, 0, PROMOTED[0]) for name in (*COUNTS, *table.proxies("inherited")))]


def ranks(table: Table) -> list[dict[str, Any]]:
    """How each cheap score ranks all members: Kendall's tau with the accuracy, the share of the best tenth it promotes."""
    found = [(way, "inherited") for way in ways(table) if way.promote == PROMOTED[0]]
    found += [(Way(name), "fresh") for name in table.proxies("fresh")]
    return [ranked(table, way, weights) for way, weights in found]


def ranked(table: Table, way: Way, weights: str) -> dict[str, Any]:
    """One cheap score against the accuracy."""
    values, seconds = table.cheap(way, weights)
    truth = table.accuracy[: len(values)]
    best = np.argsort(-truth, kind="stable")[: max(1, len(truth) // 10)]
    kept = np.argsort(-values, kind="stable")[: math.ceil(PROMOTED[0] * len(values))]
    name = str(way) if way.few or way.name in COUNTS else f"{way.name}, {weights} weights"
    share = float(seconds.mean() / table.full_seconds.mean())
    return {
        "score": name, "members": len(values), "tau": float(kendalltau(values, truth)[0]),
        "kept": float(np.isin(best, kept).mean()), "cost": share,
    }  # fmt: skip


def compared(table: Table, strategy: str, share: float, seeds: int) -> list[dict[str, Any]]:
    """The ways by one strategy: the best accuracy at each cost, and the lead over scoring everything in full."""
    units = {"images": float(table.images), "seconds": float(table.full_seconds.mean())}
    rows: list[dict[str, Any]] = []
    plain: dict[str, Array] = {}
    for way in ways(table):
        if strategy != "random" and (str(way) not in FEWER or way.promote == PROMOTED[1]):
            continue
        curves = [table.play(way, strategy, seed, share) for seed in range(seeds)]
        row: dict[str, Any] = {"way": str(way), "promote": way.promote}
        row["candidates"] = float(np.mean([len(one.best) for one in curves]))
        row["full"] = float(np.mean([one.full for one in curves]))
        for unit, price in units.items():
            steps = np.arange(1, COSTS[-1] + 1)
            found = np.array([[one.at(getattr(one, unit), cost * price) for cost in steps] for one in curves])
            known = plain.setdefault(unit, found)
            reached = steps[found.mean(0) >= known.mean(0)[-1]]
            row[unit] = {
                "best": {str(cost): interval(found[:, cost - 1]) for cost in COSTS},
                "lead": {str(cost): interval((found - known)[:, cost - 1]) for cost in COSTS},
                "reaches": int(reached[0]) if len(reached) else None,
            }
        rows.append(row)
        print(strategy, share, row["way"], way.promote, row["seconds"]["lead"], flush=True)
    return rows


def printed(written: Mapping[str, Any]) -> str:
    """The tables of the documentation."""
    lines = ["| cheap score | tau | of the best tenth kept | cost |", "|---|---|---|---|"]
    lines += [f"| {one['score']} | {one['tau']:.2f} | {one['kept']:.0%} | {one['cost']:.1%} |" for one in written["ranks"]]
    for name, rows in written["runs"].items():
        head = " | ".join(f"at {cost}" for cost in COSTS)
        lines += [
            "",
            name,
            "",
            f"| screened by | promoted | candidates, full | {head} | lead at {COSTS[1]} | as full at {COSTS[-1]} |",
        ]
        lines.append("|---" * (5 + len(COSTS)) + "|")
        for row in rows:
            found = row["seconds"]
            best = " | ".join(f"{100 * mean:.2f}" for mean, _ in found["best"].values())
            lead = "{:+.2f} ± {:.2f}".format(*(100 * value for value in found["lead"][str(COSTS[1])]))
            counts = f"{row['candidates']:.0f}, {row['full']:.0f}"
            lines.append(
                f"| {row['way']} | {row['promote']:.0%} | {counts} | {best} | {lead} | {found['reaches'] or 'not reached'} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Play what is asked for, and write down each strategy when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, default=Path("runs/screening/scores.jsonl"))
    parser.add_argument("--strategies", nargs="+", default=list(SEEDS))
    parser.add_argument("--seeds", type=int, help="instead of each strategy's own number")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5], help="of members that meet a budget on MACs")
    options = parser.parse_args()
    table = Table(options.scores)
    written = {"about": about(table), "ranks": ranks(table), "runs": {}, "environment": environment()}
    for strategy in options.strategies:
        for share in options.shares:
            rows = compared(table, strategy, share, options.seeds or SEEDS.get(strategy, 5))
            written["runs"][f"{strategy}, {share:.0%} of the members feasible"] = rows
            text = json.dumps(written, indent=1, sort_keys=True)
            (RESULTS / "search_screening.json").write_text(text + "\n", encoding="utf-8")
    print(printed(written))


def about(table: Table) -> dict[str, Any]:
    """What the table is of, and what a member's parts take."""
    known = {name: value for name, value in table.about.items() if name not in ("space", "data")}
    parts = {part: float(table.seconds(part).mean()) for part in table.rows[0]["seconds"]}
    accuracies = {"best": float(table.accuracy.max()), "deviation": float(table.accuracy.std())}
    return {**known, "members": len(table.rows), "seconds": parts, **accuracies}


if __name__ == "__main__":
    main()
