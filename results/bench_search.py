"""What `nas bench search` reports: a row for each task and strategy, curves as CSV, and plots with intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import t as student_t

from nas.files import write_json, write_text
from nas.results.plots import plot
from nas.search.table_runs import Played, Results, run_key
from nas.search.table_tasks import FASTEST, FRONT, NOISY, Task

Array = NDArray[np.float64]
MARGIN = 0.05
STEPS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Row:
    """One strategy on one task. Values are means over the seeds, each with half the width of its 95 % interval beside it,
    NaN for a single seed.

    `best` is the final value in the table's unit (of a noisy task the judged accuracy of what is recommended, of a front its
    hypervolume), of the seeds that found anything, the others being 0 in the fractions; `area` the mean over all evaluations
    of the fraction of the optimum; `regret` what the value lacks at some numbers of evaluations, below zero where unseen seeds
    judge better than the best mean. `median_evaluations_to_target` is None where fewer than half of the seeds reach it.
    """

    table: str
    objective: str
    budget: str | None
    strategy: str
    seeds: int
    evaluations: int
    best: float
    best_interval: float
    fraction_of_optimum: float
    fraction_interval: float
    median_evaluations_to_target: float | None
    reached: float
    area: float
    duplicates: int
    repeats: int
    failed: int
    regret: dict[str, tuple[float, float]]
    kind: str
    optimum: float

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON; None where something is not known, as the interval of a single seed."""
        found: dict[str, Any] = _plain({**asdict(self), "regret": {step: list(pair) for step, pair in self.regret.items()}})
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def summarise(tasks: Sequence[Task], names: Sequence[str], seeds: Sequence[int], evaluations: int, known: Results) -> list[Row]:
    """A row for each task and strategy of which there are runs."""
    found = []
    for task in tasks:
        for name in names:
            runs = _runs(task, name, seeds, evaluations, known)
            if runs:
                found.append(_row(task, name, runs, evaluations))
    return found


def _runs(task: Task, name: str, seeds: Sequence[int], evaluations: int, known: Results) -> list[Played]:
    keys = [run_key(task, name, seed, evaluations) for seed in seeds]
    return [known.runs[one] for one in keys if one in known]


def _row(task: Task, name: str, runs: Sequence[Played], evaluations: int) -> Row:
    curves = np.array([run.curve for run in runs])
    fractions = np.array([[0.0 if math.isnan(v) else task.fraction(v) for v in run.curve] for run in runs])
    hits = [_hit(task, run.curve) for run in runs]
    median = float(np.median([hit if hit is not None else math.inf for hit in hits]))
    best, fraction = mean_interval(curves[:, -1]), mean_interval(fractions[:, -1])
    sign = -1.0 if task.kind == FASTEST else 1.0
    regrets = {str(n): mean_interval(sign * (task.optimum - curves[:, n - 1])) for n in STEPS if n <= evaluations}
    return Row(
        table=task.table.name, objective=_objective(task), budget=task.budget, strategy=name, seeds=len(runs),
        evaluations=evaluations, best=best[0], best_interval=best[1], fraction_of_optimum=fraction[0],
        fraction_interval=fraction[1], median_evaluations_to_target=median if math.isfinite(median) else None,
        reached=sum(hit is not None for hit in hits) / len(hits), area=float(fractions.mean()),
        duplicates=sum(run.duplicates for run in runs), repeats=sum(run.repeats for run in runs),
        failed=sum(run.failed for run in runs), regret=regrets, kind=task.kind, optimum=task.optimum,
    )  # fmt: skip


def _objective(task: Task) -> str:
    if task.kind == FRONT:
        return f"{task.objective} and latency on {' and '.join(task.devices)}"
    return f"{task.objective} of one seed" if task.kind == NOISY else task.objective


def _hit(task: Task, curve: Sequence[float]) -> int | None:
    return next((number for number, value in enumerate(curve, 1) if task.reached(value)), None)


def mean_interval(values: Array) -> tuple[float, float]:
    """The mean of values (n,) and half the width of its 95 % interval by Student's t; NaN where too little is known."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return float(known.mean()) if len(known) else math.nan, math.nan
    half = float(student_t.ppf(0.975, len(known) - 1) * known.std(ddof=1)) / math.sqrt(len(known))
    return float(known.mean()), half


def write_files(
    folder: Path,
    tasks: Sequence[Task],
    names: Sequence[str],
    seeds: Sequence[int],
    evaluations: int,
    known: Results,
    rows: Sequence[Row],
) -> None:
    """`summary.json`, `summary.csv`, `curves.csv` and one SVG for each task, atomically. Raises FileError."""
    write_json(folder / "summary.json", [row.to_mapping() for row in rows])
    plain = [{key: value for key, value in row.to_mapping().items() if key != "regret"} for row in rows]
    write_text(folder / "summary.csv", _csv(plain))
    points: list[dict[str, Any]] = []
    for task in tasks:
        found = {name: _curve(_runs(task, name, seeds, evaluations, known)) for name in names}
        shown = {name: curve for name, curve in found.items() if curve is not None}
        for name, (middle, half) in shown.items():
            points += [
                _plain({"task": task.name, "strategy": name, "evaluations": n, "mean": m, "interval": h})
                for n, m, h in zip(range(1, len(middle) + 1), middle.tolist(), half.tolist(), strict=True)
            ]
        if shown:
            write_text(folder / "plots" / f"{_file_name(task)}.svg", curve_plot(task, shown))
    write_text(folder / "curves.csv", _csv(points))


def _curve(runs: Sequence[Played]) -> tuple[Array, Array] | None:
    """The mean and half the interval after each evaluation."""
    if not runs:
        return None
    pairs = [mean_interval(column) for column in np.array([run.curve for run in runs]).T]
    return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])


def curve_plot(task: Task, curves: dict[str, tuple[Array, Array]]) -> str:
    """The value of each strategy over evaluations, with 95 % intervals, and the optimum; as SVG."""

    def paint(axes: Axes) -> None:
        for name, (middle, half) in curves.items():
            steps = np.arange(1, len(middle) + 1)
            (line,) = axes.plot(steps, middle, linewidth=1.3, label=name)
            axes.fill_between(steps, middle - half, middle + half, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.axhline(task.optimum, color="#7a7a7a", linestyle="--", linewidth=1, label="optimum of the table")
        axes.set_ylim(*_extent(task, curves))
        axes.set_xlabel("evaluations")
        axes.set_ylabel("hypervolume" if task.kind == FRONT else _objective(task))
        axes.set_title(task.name if task.budget is None else f"{task.table.name}: {task.budget}", fontsize=9)
        axes.legend(loc="best", fontsize=8)

    return plot(paint, 7.0, 3.6)


def _extent(task: Task, curves: dict[str, tuple[Array, Array]]) -> tuple[float, float]:
    """The values to show: not those of the first tenth of a run, which lie so far off that they would hide all differences."""
    halves = [(middle, np.nan_to_num(half)) for middle, half in curves.values()]
    ends = [end[len(end) // 10 :] for middle, half in halves for end in (middle - half, middle + half)]
    known = np.append(np.concatenate(ends), task.optimum)
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    margin = MARGIN * (high - low) or abs(high) * MARGIN or MARGIN
    return low - margin, high + margin


def _file_name(task: Task) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in task.name)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
