"""Is the multi-objective machinery right? NSGA-II of this project against pymoo's on ZDT1-3, DTLZ2 and constrained MW problems.

    python benchmarks/moo.py [--seeds 15] [--problems zdt1 mw3 ...]
    python benchmarks/moo.py --report          # the table of the docs again, from the file

The strategy is `nsga2` as a search runs it; the problems are spaces of real vectors whose `crossover` and `mutate` are pymoo's
(simulated binary, polynomial). Constraints are known after an evaluation only, so constrained domination does the work. The
hypervolume is that of the last population's feasible front, below (1.1, 1.1); the reference is results/moo_pymoo.json, made
by benchmarks/moo_pymoo.py. Writes benchmarks/results/moo.json and, out of it, the table between the marks in
docs/search-benchmark.md.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from nas.search.pareto import hypervolume_2d
from nas.search.strategies.nsga2 import Nsga2
from nas.search.types import COMPLETE, Budgets, Problem, Trial
from nas.search_spaces.genotype import Gene

FOLDER = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "search-benchmark.md"
BEGIN, END = "<!-- figures: python benchmarks/moo.py -->", "<!-- end of figures of benchmarks/moo.py -->"
Vector = tuple[float, ...]
Values = tuple[float, float, float]
CROSSOVER_INDEX, MUTATION_INDEX = 15.0, 20.0


@dataclass(frozen=True)
class Point:
    """A member: a vector of numbers from 0 to 1."""

    x: Vector

    @property
    def digest(self) -> str:
        """Different for different vectors."""
        return blake2b(np.array(self.x).tobytes(), digest_size=8).hexdigest()

    def to_json(self) -> str:
        """The vector as JSON."""
        return json.dumps(self.x)


class Cube:
    """The unit cube as a space: what NSGA-II asks of one."""

    genes: tuple[Gene, ...] = ()
    dense = True

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width = name, width

    def sample(self, rng: random.Random) -> Point:
        """A uniform point."""
        return Point(tuple(rng.random() for _ in range(self.width)))

    def crossover(self, first: Point, second: Point, rng: random.Random) -> Point:
        """Simulated binary crossover within bounds, one of the two children; Deb and Agrawal 1995.

        The other child is that of the same draws with the parents in the other order.
        """
        child = []
        for mine, theirs in zip(first.x, second.x, strict=True):
            low, high = min(mine, theirs), max(mine, theirs)
            if rng.random() < 0.5 and high - low > 1e-14:
                drawn, left = rng.random(), (rng.random() < 0.5) == (mine < theirs)
                edge = low if left else 1.0 - high
                alpha = 2.0 - (1.0 + 2.0 * edge / (high - low)) ** -(CROSSOVER_INDEX + 1.0)
                ratio = drawn * alpha if drawn <= 1.0 / alpha else 1.0 / (2.0 - drawn * alpha)
                reach = ratio ** (1.0 / (CROSSOVER_INDEX + 1.0)) * (high - low)
                child.append(min(1.0, max(0.0, 0.5 * (low + high + (-reach if left else reach)))))
            else:
                child.append(mine)
        return Point(tuple(child))

    def mutate(self, point: Point, rng: random.Random) -> Point:
        """Polynomial mutation within bounds of at least one number, each with the probability 1 / width; Deb 2001."""
        while True:
            changed = Point(tuple(_mutated(x, rng) if rng.random() < 1.0 / self.width else x for x in point.x))
            if changed != point:
                return changed

    def size(self) -> int:
        """More than can be counted."""
        return 10**18

    def to_mapping(self) -> dict[str, Any]:
        """Name and width."""
        return {"name": self.name, "width": self.width}

    def _none(self, *_: Any) -> Any:
        raise NotImplementedError("a cube has no genes and no graph")

    encode = encoded = decode = smallest = from_json = _none

    def neighbours(self, point: Point) -> Iterator[Point]:
        """None: a cube has no nearest points."""
        return iter(())

    def graph(self, point: Point) -> nx.DiGraph:
        """None."""
        return self._none()


def _mutated(x: float, rng: random.Random) -> float:
    drawn, power = rng.random(), MUTATION_INDEX + 1.0
    if drawn < 0.5:
        return x + (2.0 * drawn + (1.0 - 2.0 * drawn) * (1.0 - x) ** power) ** (1.0 / power) - 1.0
    return x + 1.0 - (2.0 * (1.0 - drawn) + 2.0 * (drawn - 0.5) * x**power) ** (1.0 / power)


def zdt(kind: int) -> Callable[[Vector], Values]:
    """ZDT1, ZDT2 or ZDT3; Zitzler, Deb and Thiele 2000."""

    def values(x: Vector) -> Values:
        g = 1.0 + 9.0 * sum(x[1:]) / (len(x) - 1)
        ratio = x[0] / g
        h = 1.0 - ratio**2 if kind == 2 else 1.0 - math.sqrt(ratio)
        return x[0], g * (h - ratio * math.sin(10.0 * math.pi * x[0]) if kind == 3 else h), 0.0

    return values


def dtlz2(x: Vector) -> Values:
    """DTLZ2 with two objectives; Deb et al. 2002."""
    g = sum((v - 0.5) ** 2 for v in x[1:])
    return (1.0 + g) * math.cos(0.5 * math.pi * x[0]), (1.0 + g) * math.sin(0.5 * math.pi * x[0]), 0.0


def _linked(x: Vector) -> float:
    return 1.0 + sum(2.0 * (x[i] + (x[i - 1] - 0.5) ** 2 - 1.0) ** 2 for i in range(1, len(x)))


def mw1(x: Vector) -> Values:
    """MW1; Ma and Wang 2019, "Evolutionary Constrained Multiobjective Optimization: Test Suite Construction"."""
    width = len(x)
    aims = (x[i] ** (width - 2) - 0.5 - i / (2.0 * width) for i in range(1, width))
    g = 1.0 + sum(1.0 - math.exp(-10.0 * aim * aim) for aim in aims)
    f1, f2 = x[0], g * (1.0 - 0.85 * x[0] / g)
    wave = math.sin(2.0 * math.pi * math.sqrt(2.0) * (f2 - f1))
    return f1, f2, max(0.0, f1 + f2 - 1.0 - 0.5 * wave**8)


def mw3(x: Vector) -> Values:
    """MW3: a front on the border of a wavy band of feasible points."""
    g = _linked(x)
    f1, f2 = x[0], g * (1.0 - x[0] / g)
    wave = math.sin(0.75 * math.pi * math.sqrt(2.0) * (f2 - f1))
    above, below = f1 + f2 - 1.05 - 0.45 * wave**6, 0.85 - f1 - f2 + 0.3 * wave**2
    return f1, f2, max(0.0, above) + max(0.0, below)


def mw7(x: Vector) -> Values:
    """MW7: a curved front, part of which the constraints move."""
    g = _linked(x)
    f1 = g * x[0]
    f2 = g * math.sqrt(max(0.0, 1.0 - (f1 / g) ** 2))
    angle = math.atan2(f2, f1)
    above = f1**2 + f2**2 - (1.2 + 0.4 * math.sin(4.0 * angle) ** 16) ** 2
    below = (1.15 - 0.2 * math.sin(4.0 * angle) ** 8) ** 2 - f1**2 - f2**2
    return f1, f2, max(0.0, above) + max(0.0, below)


PROBLEMS: dict[str, tuple[Callable[[Vector], Values], int]] = {
    "zdt1": (zdt(1), 30), "zdt2": (zdt(2), 30), "zdt3": (zdt(3), 30), "dtlz2": (dtlz2, 11),
    "mw1": (mw1, 15), "mw3": (mw3, 15), "mw7": (mw7, 15),
}  # fmt: skip


def front_volume(name: str, seed: int, evaluations: int, population: int, reference: Vector) -> float:
    """The hypervolume of the feasible members of the last population."""
    values, width = PROBLEMS[name]

    def described(_: Point) -> Mapping[str, float]:
        return {"excess": 1.0}

    problem = Problem(Cube(name, width), described, Budgets({"excess": 1.0}), ("first", "second"))
    found = Nsga2(problem, seed, population)
    for number in range(evaluations):
        point: Any = found.ask(number)
        first, second, violation = values(point.x)
        found.tell([Trial(number, point, COMPLETE, {"first": first, "second": second, "excess": 1.0 + violation})])
    last = [trial for trial in found.parents(evaluations // population) if trial.metrics["excess"] <= 1.0]
    return hypervolume_2d([problem.costs(trial) for trial in last], reference)


def check(name: str, stored: Mapping[str, Any]) -> None:
    """Fail where a problem is not pymoo's."""
    values = PROBLEMS[name][0]
    for row, (point, costs) in enumerate(zip(stored["points"], stored["costs"], strict=True)):
        mine = values(tuple(point))
        broken = sum(max(0.0, g) for g in stored["constraints"][row]) if stored["constraints"] else 0.0
        np.testing.assert_allclose(mine, [*costs, broken], rtol=1e-9, atol=1e-12, err_msg=name)


def ratio(middle: Callable[[list[float]], Any], ours: list[float], theirs: list[float]) -> float:
    """Our mean or median over pymoo's."""
    return float(middle(ours) / middle(theirs))


def line(name: str, ours: list[float], theirs: list[float]) -> str:
    """A row of the table: means with the lowest, ratios of means and medians, and runs in which nothing was feasible."""
    sides = " | ".join(f"{np.mean(side):.4f} | {min(side):.4f}" for side in (ours, theirs))
    ratios = " | ".join(f"{ratio(middle, ours, theirs):.4f}" for middle in (np.mean, np.median))
    return f"| {name} | {sides} | {ratios} | {ours.count(0.0)}, {theirs.count(0.0)} |"


def report() -> None:
    """Put what the file holds between the marks of the docs."""
    stored = json.loads((FOLDER / "moo.json").read_text(encoding="utf-8"))
    about, problems = stored["about"], stored["problems"]
    corner = ", ".join(map(str, about["reference"]))
    seeds = sorted({len(side) for row in problems.values() for side in (row["ours"], row["pymoo"])})
    lines = [
        f"Hypervolume below ({corner}) after {about['evaluations']:,} evaluations with a population of {about['population']}; "
        f"seeds from 0 on, {' or '.join(map(str, seeds))} of each; pymoo {about['pymoo']}.",
        "",
        "| problem | ours | lowest | pymoo | lowest | ratio of means | of medians | nothing feasible (ours, pymoo) |",
        "|" + "---|" * 8,
        *(line(name, problems[name]["ours"], problems[name]["pymoo"]) for name in PROBLEMS if name in problems),
    ]
    head, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    DOCS.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if options.report:
        report()
        return
    stored = json.loads((FOLDER / "moo_pymoo.json").read_text(encoding="utf-8"))
    about = stored["about"]
    rows = {}
    print("| problem | ours | lowest | pymoo | lowest | ratio of means | of medians | nothing feasible |")
    print("|" + "---|" * 8)
    for name in options.problems:
        check(name, stored["problems"][name])
        settings = about["evaluations"], about["population"], tuple(about["reference"])
        ours = [front_volume(name, seed, *settings) for seed in range(options.seeds)]
        theirs = stored["problems"][name]["hypervolumes"]
        rows[name] = {"ours": ours, "pymoo": theirs, "mean_ratio": ratio(np.mean, ours, theirs)}
        rows[name]["median_ratio"] = ratio(np.median, ours, theirs)
        rows[name]["nothing_feasible"] = {"ours": ours.count(0.0), "pymoo": theirs.count(0.0)}
        print(line(name, ours, theirs), flush=True)
    text = json.dumps({"about": about, "problems": rows}, indent=1, sort_keys=True)
    (FOLDER / "moo.json").write_text(text + "\n", encoding="utf-8")
    report()


if __name__ == "__main__":
    main()
