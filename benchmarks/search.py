"""The figures of docs/search-benchmark.md, out of folders that `nas bench search --out` wrote, finished or not.

    nas bench search --tables DIR --seeds 20 --out OUT
    python benchmarks/search.py --tables DIR [OUT ...]

Adds the runs of the folders to those in benchmarks/results/search_runs.jsonl.gz, so that a strategy can be played again without
the others. Of all, it writes benchmarks/results/search.json (a row for each task and strategy, as of `nas bench search --json`)
and the tables between the marks in docs/search-benchmark.md: budgets by table and share of the rows, then the unconstrained,
noisy and front tasks.
Means over devices are taken seed by seed, as runs of one seed begin alike on all devices; intervals are over these. One seed
has none. Runs of another fingerprint than today's are shown where there are no others, and named.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.results.bench_search import Row, mean_interval, summarise
from nas.search.table_runs import Played, Results, fingerprint, line, run_key
from nas.search.table_tasks import BEST, FRONT, NOISY, Task, tasks
from nas.search.tables import read_tables

RESULTS = Path(__file__).parent / "results" / "search.json"
RUNS = RESULTS.with_name("search_runs.jsonl.gz")
DOCS = Path(__file__).parent.parent / "docs" / "search-benchmark.md"
BEGIN, END = "<!-- figures: python benchmarks/search.py -->", "<!-- end of figures -->"
QUANTILES = (0.1, 0.25, 0.5)
SEEDS = range(20)
EVALUATIONS = 150
LEVEL = 1e-4
UNSHOWN = {"10", "20", "30", "75"}
FIRST = ("bo", "random", "evolution", "local_search", "nsga2", "optuna:NSGAIISampler", "pymoo_nsga2", "tpe", "gp")


Runs = dict[tuple[str, str], list[Played]]


def cell(values: Iterable[float], digits: int) -> str:
    """A mean and half its 95 % interval, which takes two values."""
    return _pair(mean_interval(np.array(list(values))), digits)


def stored(folders: Iterable[Path]) -> list[Played]:
    """The runs of the last report, and those of some folders."""
    found = [run for folder in folders for run in Results(folder / "runs.jsonl").runs.values()]
    if RUNS.exists():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "runs.jsonl"
            path.write_bytes(gzip.decompress(RUNS.read_bytes()))
            found += Results(path).runs.values()
    return found


def store(runs: Iterable[Played]) -> None:
    """Keep the runs of a report; the same runs give the same bytes."""
    order = sorted(runs, key=lambda run: (run.task, run.strategy, run.seed))
    whole = RUNS.with_suffix(".new")
    whole.write_bytes(gzip.compress("".join(map(line, order)).encode(), mtime=0))
    whole.replace(RUNS)


def of_today(found: Sequence[Task], known: Iterable[Played]) -> tuple[Results, Counter[str]]:
    """The runs to report, as if all were of today's fingerprint, and how many of each strategy are not."""
    by_name = {task.name: task for task in found}
    shown, older = Results(None), Counter[str]()
    for run in sorted(known, key=lambda run: run.fingerprint, reverse=True):
        task = by_name.get(run.task)
        if task is None or run.seed not in SEEDS or run.evaluations != EVALUATIONS:
            continue
        place = run_key(task, run.strategy, run.seed, run.evaluations)
        if run.fingerprint == fingerprint(task, run.strategy) or place not in shown:
            shown.runs[place] = run
    for run in shown.runs.values():
        older[run.strategy] += run.fingerprint != fingerprint(by_name[run.task], run.strategy)
    return shown, +older


def by_seed(runs: Runs, members: Sequence[Task], name: str, value: Callable[[Task, Played], float]) -> dict[int, float]:
    """The mean over some tasks of a value of a strategy's runs, for each seed that has played all of them."""
    found: dict[int, list[float]] = defaultdict(list)
    for task in members:
        for run in runs[task.name, name]:
            found[run.seed].append(value(task, run))
    return {seed: float(np.mean(values)) for seed, values in found.items() if len(values) == len(members)}


def budget_lines(found: Sequence[Task], runs: Runs, names: Sequence[str]) -> list[str]:
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
            played = [task for task in members if (task.name, name) in runs]
            if played:
                lines.append(f"| {table} | {quantile:.0%} of rows | {name} | {' | '.join(_budget_cells(runs, played, name))} |")
    return lines


def _budget_cells(runs: Runs, members: Sequence[Task], name: str) -> list[str]:
    devices = {str(task.device): [_fraction(task, run) for run in runs[task.name, name]] for task in members}
    reached = [task.reached(run.curve[-1]) for task in members for run in runs[task.name, name]]
    whole = by_seed(runs, members, name, _fraction)
    worst = min(devices, key=lambda device: np.mean(devices[device]))
    return [
        str(len(members)),
        extent([len(values) for values in devices.values()]),
        cell(whole.values(), 4) if whole else f"{np.mean([np.mean(values) for values in devices.values()]):.4f}",
        f"{np.mean(devices[worst]):.4f} ({worst})",
        f"{min(min(values) for values in devices.values()):.4f}",
        f"{np.mean(reached):.0%}",
    ]


def lead_lines(found: Sequence[Task], runs: Runs, names: Sequence[str]) -> list[str]:
    """On how many budgets the first strategy is ahead of each other one, level or behind: means over the seeds of both."""
    first = names[0]
    lines = [f"| {first} against | budgets | common seeds | ahead | level | behind | behind most |", "|" + "---|" * 7]
    for other in names[1:]:
        gaps, seeds = {}, []
        for task in (task for task in found if task.quantile is not None):
            mine, theirs = ({run.seed: _fraction(task, run) for run in runs.get((task.name, n), [])} for n in (first, other))
            common = mine.keys() & theirs.keys()
            if common:
                gaps[f"{task.device} {task.quantile:.0%}"] = float(np.mean([mine[seed] - theirs[seed] for seed in common]))
                seeds.append(len(common))
        if gaps:
            worst = min(gaps, key=lambda key: gaps[key])
            ahead, behind = sum(gap > LEVEL for gap in gaps.values()), sum(gap < -LEVEL for gap in gaps.values())
            most = f"{-gaps[worst]:.4f} ({worst})" if gaps[worst] < -LEVEL else "-"
            level = len(gaps) - ahead - behind
            lines.append(f"| {other} | {len(gaps)} | {extent(seeds)} | {ahead} | {level} | {behind} | {most} |")
    return lines


def extent(counts: Sequence[int]) -> str:
    """`4`, or `2-12` where counts differ."""
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"


def _fraction(task: Task, run: Played) -> float:
    return 0.0 if math.isnan(run.curve[-1]) else task.fraction(run.curve[-1])


def _pair(pair: tuple[float, float], digits: int) -> str:
    return f"{pair[0]:.{digits}f}" + ("" if math.isnan(pair[1]) else f" ± {pair[1]:.{digits}f}")


def free_lines(rows: Sequence[Row]) -> list[str]:
    """The tasks without a budget: what is reached, how soon, and the regret."""
    lines = [
        "| table | objective | strategy | seeds | of the optimum | to target | regret at 50 | at 100 | repeats |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        if row.kind in (BEST, NOISY) and row.budget is None:
            target = "-" if row.median_evaluations_to_target is None else f"{row.median_evaluations_to_target:g}"
            regrets = " | ".join(_pair(row.regret[n], 3) for n in ("50", "100"))
            whole = _pair((row.fraction_of_optimum, row.fraction_interval), 4)
            first = f"| {row.table} | {row.objective} | {row.strategy} | {row.seeds} | {whole}"
            lines.append(f"{first} | {'-' if row.kind == NOISY else target} | {regrets} | {row.repeats} |")
    return lines


def front_lines(found: Sequence[Task], runs: Runs, names: Sequence[str]) -> list[str]:
    """Hypervolume of accuracy and latencies relative to that of the whole table, after some evaluations."""
    steps = (25, 50, 100, 150)
    heads = "| table | objectives | strategy | fronts | seeds | " + " | ".join(f"at {n}" for n in steps) + " |"
    lines = [heads, "|" + "---|" * 9]
    fronts = [task for task in found if task.kind == FRONT]
    groups = sorted({(task.table.name, 1 + len(task.devices)) for task in fronts})
    for (table, objectives), name in itertools.product(groups, names):
        alike = [task for task in fronts if (task.table.name, 1 + len(task.devices)) == (table, objectives)]
        members = [task for task in alike if (task.name, name) in runs]
        shares = [by_seed(runs, members, name, lambda t, run, n=n: t.fraction(run.curve[n - 1])) for n in steps]
        if members and shares[0]:
            cells = " | ".join(cell(share.values(), 3) for share in shares)
            lines.append(f"| {table} | {objectives} | {name} | {len(members)} | {len(shares[0])} | {cells} |")
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
    parser.add_argument("folders", type=Path, nargs="*")
    options = parser.parse_args()
    found = list(tasks(read_tables(options.tables)[0], QUANTILES))
    everything = stored(options.folders)
    known, older = of_today(found, everything)
    known_tasks = {task.name for task in found}
    store([*known.runs.values(), *(run for run in everything if run.task not in known_tasks)])
    runs: Runs = defaultdict(list)
    for run in known.runs.values():
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
    parts += [["### Fronts of accuracy and latencies", "", *fronts]] if fronts else []
    about = f"{count} runs of {EVALUATIONS} evaluations; duplicates evaluated: {duplicates}. Means with 95 % intervals."
    if older:
        told = ", ".join(f"{name} {number}" for name, number in sorted(older.items()))
        about += f" Stored by an earlier version, and not played again since: {told}."
    text = DOCS.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    body = "\n\n".join("\n".join(part) for part in ([about], *parts))
    DOCS.write_text(f"{head}{BEGIN}\n{body}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(about)


if __name__ == "__main__":
    main()
