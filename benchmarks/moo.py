"""Is the multi-objective machinery right? NSGA-II of this project against pymoo's on ZDT1-3, DTLZ2 and constrained MW problems.

    python benchmarks/moo.py [--problems zdt1 mw3 ...]
    python benchmarks/moo.py --report          # the table of the docs again, from the file

The strategy is `nsga2` as a search runs it; the problems are spaces of real vectors whose `crossover` and `mutate` are pymoo's
(simulated binary, polynomial). Constraints are known after an evaluation only, so constrained domination does the work. The
hypervolume is that of the last population's feasible front, below (1.1, 1.1); the reference is results/moo_pymoo.json, made
by benchmarks/moo_pymoo.py, which also sets populations, evaluations and how many seeds are played. Writes
benchmarks/results/moo.json and, out of it, the table between the marks in docs/search-benchmark.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from moo_problems import PROBLEMS, Cube, Point, Vector

from nas.search.pareto import hypervolume_2d
from nas.search.strategies.nsga2 import Nsga2
from nas.search.types import COMPLETE, Budgets, Problem, Trial

FOLDER = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "search-benchmark.md"
BEGIN, END = "<!-- figures: python benchmarks/moo.py -->", "<!-- end of figures of benchmarks/moo.py -->"
HEADER = (
    "problem", "evaluations", "population", "seeds", "ours", "lowest", "pymoo", "lowest", "ratio of means", "interval",
    "of medians", "nothing feasible (ours, pymoo)",
)  # fmt: skip
RESAMPLES = 20_000


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


def interval(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the ratio of means; both sides are drawn anew, each from its own runs."""
    rng = np.random.default_rng(0)
    means = [np.array(side)[rng.integers(len(side), size=(RESAMPLES, len(side)))].mean(axis=1) for side in (ours, theirs)]
    low, high = np.percentile(means[0] / means[1], [2.5, 97.5])
    return float(low), float(high)


def line(row: Mapping[str, Any]) -> str:
    """A row of the table: means with the lowest, ratios of means and medians, and runs in which nothing was feasible."""
    ours, theirs = row["ours"], row["pymoo"]
    cells = [row["problem"], f"{row['evaluations']:,}", str(row["population"]), str(len(ours))]
    cells += [f"{value:.4f}" for side in (ours, theirs) for value in (np.mean(side), min(side))]
    low, high = interval(ours, theirs)
    cells += [f"{ratio(np.mean, ours, theirs):.4f}", f"{low:.3f} to {high:.3f}", f"{ratio(np.median, ours, theirs):.4f}"]
    return f"| {' | '.join(cells)} | {ours.count(0.0)}, {theirs.count(0.0)} |"


def table(stored: Mapping[str, Any]) -> list[str]:
    """The lines of the docs' table, with what it says above."""
    about = stored["about"]
    corner = ", ".join(f"{value:g}" for value in about["reference"])
    return [
        f"Hypervolume below ({corner}) of the last population; seeds from 0 on, as many of each; pymoo {about['pymoo']}. The "
        "interval is that of the ratio of means, 95 % by bootstrap.",
        "",
        f"| {' | '.join(HEADER)} |",
        "|" + "---|" * len(HEADER),
        *(line(row) for row in stored["runs"]),
    ]


def report() -> None:
    """Put what the file holds between the marks of the docs."""
    stored = json.loads((FOLDER / "moo.json").read_text(encoding="utf-8"))
    head, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    DOCS.write_text(f"{head}{BEGIN}\n" + "\n".join(table(stored)) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")


def played(row: Mapping[str, Any], reference: Vector) -> dict[str, Any]:
    """Our runs of a setting beside pymoo's, as many as it has."""
    name, spent, size, theirs = row["problem"], row["evaluations"], row["population"], row["hypervolumes"]
    ours = [front_volume(name, seed, spent, size, reference) for seed in range(len(theirs))]
    return {"problem": name, "evaluations": spent, "population": size, "ours": ours, "pymoo": theirs}


def main() -> None:
    """Run, print, write after every setting; settings of problems that were not asked for stay as they are in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    if options.report:
        report()
        return
    stored = json.loads((FOLDER / "moo_pymoo.json").read_text(encoding="utf-8"))
    about, results = stored["about"], FOLDER / "moo.json"
    known = json.loads(results.read_text(encoding="utf-8"))["runs"] if results.exists() else []
    done = {_setting(row): row for row in known}
    for row in stored["runs"]:
        if row["problem"] in options.problems:
            check(row["problem"], stored["problems"][row["problem"]])
            done[_setting(row)] = played(row, tuple(about["reference"]))
            print(line(done[_setting(row)]), flush=True)
            runs = [done[_setting(one)] for one in stored["runs"] if _setting(one) in done]
            results.write_text(json.dumps({"about": about, "runs": runs}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    report()


def _setting(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["problem"], row["evaluations"], row["population"]


if __name__ == "__main__":
    main()
