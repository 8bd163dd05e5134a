"""The figures of docs/search-benchmark.md, out of folders that `nas bench search --out` wrote, finished or not.

    nas bench search --tables DIR --seeds 20 --out OUT
    python benchmarks/search.py --tables DIR OUT [OUT ...]

Writes benchmarks/results/search.json (a row for each task and strategy, as of `nas bench search --json`) and the tables between
the marks in docs/search-benchmark.md: budgets by table and share of the rows, then the unconstrained, noisy and front tasks.
Means over devices are taken seed by seed, as runs of one seed begin alike on all devices; intervals are over these.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.results.bench_search import Row, mean_interval, summarise
from nas.search.table_runs import Played, Results
from nas.search.table_tasks import BEST, FRONT, NOISY, Task, tasks
from nas.search.tables import read_tables

RESULTS = Path(__file__).parent / "results" / "search.json"
DOCS = Path(__file__).parent.parent / "docs" / "search-benchmark.md"
BEGIN, END = "<!-- figures: python benchmarks/search.py -->", "<!-- end of figures -->"
QUANTILES = (0.1, 0.25, 0.5)
SEEDS = range(20)
EVALUATIONS = 150
LEVEL = 1e-4
UNSHOWN = {"10", "20", "30", "75"}
FIRST = ("bo", "random", "evolution", "local_search", "nsga2", "optuna:NSGAIISampler", "pymoo_nsga2", "tpe", "gp")


def cell(values: Iterable[float], digits: int) -> str:
    """A mean and half its 95 % interval, which takes two values."""
    known = np.array(list(values))
    mean, half = mean_interval(known)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(known) > 1 else "")


def budget_lines(found: Sequence[Task], runs: dict[tuple[str, str], list[Played]], names: Sequence[str]) -> list[str]:
    """For each table, share of the rows and strategy: the fraction of the best feasible value, and the worst device."""
    lines = [
        "| table | met by | strategy | devices | seeds | of the best feasible | worst device | worst run | at the target |",
        "|" + "---|" * 9,
    ]
    groups: dict[tuple[str, float], list[Task]] = defaultdict(list)
    for task in found:
        if task.kind == BEST and task.quantile is not None:
            groups[task.table.name, task.quantile].append(task)
    for (table, quantile), members in sorted(groups.items()):
        for name in names:
            played = [(task, runs[task.name, name]) for task in members if (task.name, name) in runs]
            if played:
                lines.append(f"| {table} | {quantile:.0%} of rows | {name} | {' | '.join(_budget_cells(played))} |")
    return lines


def _budget_cells(played: Sequence[tuple[Task, list[Played]]]) -> list[str]:
    seeds: dict[int, list[float]] = defaultdict(list)
    devices: dict[str, list[float]] = defaultdict(list)
    reached: list[bool] = []
    for task, some in played:
        for run in some:
            value = _fraction(task, run)
            seeds[run.seed].append(value)
            devices[str(task.device)].append(value)
            reached.append(task.reached(run.curve[-1]))
    whole = [np.mean(values) for values in seeds.values() if len(values) == len(played)]
    worst = min(devices, key=lambda device: np.mean(devices[device]))
    counts = sorted({len(values) for values in devices.values()})
    return [
        str(len(played)),
        "-".join(str(count) for count in (counts[:1] + counts[-1:] if len(counts) > 1 else counts)),
        cell(whole or [np.mean([value for values in seeds.values() for value in values])], 4),
        f"{np.mean(devices[worst]):.4f} ({worst})",
        f"{min(min(values) for values in devices.values()):.4f}",
        f"{np.mean(reached):.0%}",
    ]


def lead_lines(found: Sequence[Task], runs: dict[tuple[str, str], list[Played]], names: Sequence[str]) -> list[str]:
    """On how many budgets the first strategy's mean is ahead of each other one's, level with it, or behind."""
    first, lines = names[0], [f"| {names[0]} against | budgets | ahead | level | behind | behind most |", "|" + "---|" * 6]
    for other in names[1:]:
        gaps = {}
        for task in found:
            pair = [runs.get((task.name, name)) for name in (first, other)]
            if task.quantile is not None and all(pair):
                mine, theirs = (np.mean([_fraction(task, run) for run in some or []]) for some in pair)
                gaps[f"{task.device} {task.quantile:.0%}"] = float(mine - theirs)
        if gaps:
            worst = min(gaps, key=lambda key: gaps[key])
            counts = [sum(gap > LEVEL for gap in gaps.values()), sum(gap < -LEVEL for gap in gaps.values())]
            level = len(gaps) - sum(counts)
            most = f"{-gaps[worst]:.4f} ({worst})" if gaps[worst] < -LEVEL else "-"
            lines.append(f"| {other} | {len(gaps)} | {counts[0]} | {level} | {counts[1]} | {most} |")
    return lines


def _fraction(task: Task, run: Played) -> float:
    return 0.0 if math.isnan(run.curve[-1]) else task.fraction(run.curve[-1])


def free_lines(rows: Sequence[Row]) -> list[str]:
    """The tasks without a budget: what is reached, how soon, and the regret."""
    lines = [
        "| table | objective | strategy | seeds | of the optimum | to target | regret at 50 | at 100 | repeats |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        if row.kind in (BEST, NOISY) and row.budget is None:
            target = "-" if row.median_evaluations_to_target is None else f"{row.median_evaluations_to_target:g}"
            regrets = " | ".join(f"{row.regret[n][0]:.3f} ± {row.regret[n][1]:.3f}" for n in ("50", "100"))
            whole = f"{row.fraction_of_optimum:.4f} ± {row.fraction_interval:.4f}"
            first = f"| {row.table} | {row.objective} | {row.strategy} | {row.seeds} | {whole}"
            lines.append(f"{first} | {'-' if row.kind == NOISY else target} | {regrets} | {row.repeats} |")
    return lines


def front_lines(found: Sequence[Task], runs: dict[tuple[str, str], list[Played]], names: Sequence[str]) -> list[str]:
    """Hypervolume of accuracy and latency relative to that of the whole table, after some evaluations."""
    steps = (25, 50, 100, 150)
    lines = ["| table | strategy | devices | seeds | " + " | ".join(f"at {n}" for n in steps) + " |", "|" + "---|" * 8]
    for table in sorted({task.table.name for task in found}):
        for name in names:
            members = [t for t in found if t.kind == FRONT and t.table.name == table and (t.name, name) in runs]
            shares = [(t, run) for t in members for run in runs[t.name, name]]
            if shares:
                cells = [cell([t.fraction(run.curve[n - 1]) for t, run in shares], 3) for n in steps]
                lines.append(f"| {table} | {name} | {len(members)} | {len(shares) / len(members):.3g} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []


def _brief(value: Any) -> Any:
    """Numbers to six digits, and of the regrets those that the tables show."""
    if isinstance(value, dict):
        return {key: _brief(v) for key, v in value.items() if key not in UNSHOWN}
    if isinstance(value, list):
        return [_brief(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Read, write, print what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    known = Results(None)
    for folder in options.folders:
        known.runs.update(Results(folder / "runs.jsonl").runs)
    found = list(tasks(read_tables(options.tables)[0], QUANTILES))
    runs: dict[tuple[str, str], list[Played]] = defaultdict(list)
    for run in known.runs.values():
        if run.seed in SEEDS and run.evaluations == EVALUATIONS:
            runs[run.task, run.strategy].append(run)
    played = {name for _, name in runs}
    names = [name for name in FIRST if name in played] + sorted(played - set(FIRST))
    rows = summarise(found, names, SEEDS, EVALUATIONS, known)
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(_brief(row.to_mapping())) for row in rows) + "\n]\n", encoding="utf-8")
    duplicates, count = sum(row.duplicates for row in rows), sum(row.seeds for row in rows)
    parts = [
        ["### Under latency budgets", "", *budget_lines(found, runs, names)],
        [f"Budget by budget, means over the seeds; within {LEVEL:.2%} counts as level:", "", *lead_lines(found, runs, names)],
        ["### Without a budget", "", *free_lines(rows)],
    ]
    fronts = front_lines(found, runs, names)
    parts += [["### Fronts of accuracy and latency", "", *fronts]] if fronts else []
    about = f"{count} runs of {EVALUATIONS} evaluations; duplicates evaluated: {duplicates}. Means with 95 % intervals."
    text = DOCS.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    body = "\n\n".join("\n".join(part) for part in ([about], *parts))
    DOCS.write_text(f"{head}{BEGIN}\n{body}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(about)


if __name__ == "__main__":
    main()
