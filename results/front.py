"""The Pareto front: which networks no other beats in all objectives, how much they cover, and `front.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from nas.errors import FileError, SpaceError
from nas.files import read_text, write_text
from nas.search.types import MAXIMISED, Budgets, Trial
from nas.search_spaces.architecture import Architecture


@dataclass(frozen=True, slots=True)
class FrontRow:
    """One network of the front. Latencies in seconds; `latency_low` to `latency_high` is the predictor's interval.

    `others` are further metrics that had a budget or were an objective, in SI units.
    """

    digest: str
    accuracy: float
    latency_predicted: float
    latency_low: float
    latency_high: float
    params: int
    macs: int
    architecture: Architecture
    others: Mapping[str, float] = field(default_factory=dict)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, accuracy) points that no other point dominates, fastest first.

    A point dominates another if it is no slower and no less accurate, and better in one of the two. Equal points do not
    dominate each other; the first of them is kept.
    """
    return undominated([(latency, -accuracy) for latency, accuracy in points])


def undominated(costs: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the costs, less being better, that no other dominates, in lexical order; of equal ones the first."""
    front: list[int] = []
    # In lexical order whatever dominates a point comes before it.
    for index in sorted(range(len(costs)), key=lambda i: (*costs[i], i)):
        if not any(all(a <= b for a, b in zip(costs[kept], costs[index], strict=True)) for kept in reversed(front)):
            front.append(index)
    return front


def axes_of(objectives: Sequence[str]) -> tuple[str, ...]:
    """What a front trades off: the objectives, or the only one against the latency."""
    return tuple(objectives) if len(objectives) > 1 else (*objectives, "latency")


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area between the front of (latency, accuracy) points and a reference latency (above) and accuracy (below).

    Points that do not better the reference in both count for nothing.
    """
    worst_latency, worst_accuracy = reference
    within = [p for p in points if p[0] < worst_latency and p[1] > worst_accuracy]
    front = [within[i] for i in pareto(within)]
    until = [*(latency for latency, _ in front), worst_latency][1:]
    return sum((right - left) * (accuracy - worst_accuracy) for (left, accuracy), right in zip(front, until, strict=True))


def front_trials(trials: Iterable[Trial], budgets: Budgets, objectives: Sequence[str]) -> list[Trial]:
    """Of the trials scored in full and within the budgets those that no other beats in all objectives, fastest first."""
    legal = [trial for trial in trials if trial.full and budgets.violation(trial.metrics) == 0.0]
    signs = {name: -1.0 if name in MAXIMISED else 1.0 for name in axes_of(objectives)}
    costs = [[sign * trial.metrics[name] for name, sign in signs.items()] for trial in legal]
    chosen = [legal[i] for i in undominated(costs)]
    return sorted(chosen, key=lambda trial: (trial.metrics["latency"], trial.number))


def write_front(path: Path, rows: Sequence[FrontRow]) -> None:
    """Write `front.csv` atomically, each architecture as its canonical JSON. Raises FileError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    others = list(dict.fromkeys(name for row in rows for name in row.others))
    writer.writerow([*_COLUMNS, *others, _LAST])
    for row in rows:
        more = [row.others.get(name, "") for name in others]
        writer.writerow([*(getattr(row, name) for name in _COLUMNS), *more, row.architecture.to_json()])
    write_text(path, text.getvalue())


def read_front(path: Path) -> list[FrontRow]:
    """The rows of a `front.csv`. Raises FileError where it is missing, damaged, or another table."""
    records = list(csv.reader(io.StringIO(read_text(path, "the front"))))
    if not records or records[0][: len(_COLUMNS)] != _COLUMNS or records[0][-1] != _LAST:
        wanted = ",".join([*_COLUMNS, _LAST])
        raise FileError(f"{path} is no front: its first line must be {wanted}; write it again from the run")
    others = records[0][len(_COLUMNS) : -1]
    return [_row(path, number, record, others) for number, record in enumerate(records[1:], start=2)]


_LAST = "architecture"
_COLUMNS = [one.name for one in fields(FrontRow) if one.name not in (_LAST, "others")]


def _row(path: Path, number: int, record: list[str], others: list[str]) -> FrontRow:
    try:
        digest, accuracy, predicted, low, high, params, macs, *rest, text = record
        more = {name: float(value) for name, value in zip(others, rest, strict=True) if value}
        architecture, sizes = Architecture.from_json(text), (int(params), int(macs))
        row = FrontRow(digest, float(accuracy), float(predicted), float(low), float(high), *sizes, architecture, more)
    except (ValueError, SpaceError) as error:
        raise FileError(f"line {number} of {path} is damaged ({error}); write it again from the run") from error
    if architecture.digest != digest:
        raise FileError(f"line {number} of {path}: the architecture's digest is {architecture.digest}, not {digest}")
    return row
