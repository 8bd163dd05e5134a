"""The Pareto front: which networks no other beats in both accuracy and latency, how much they cover, and `front.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from nas.errors import FileError, SpaceError
from nas.files import read_text, write_text
from nas.search_spaces.architecture import Architecture


@dataclass(frozen=True, slots=True)
class FrontRow:
    """One network of the front. Latencies in seconds; `latency_low` to `latency_high` is the predictor's interval."""

    digest: str
    accuracy: float
    latency_predicted: float
    latency_low: float
    latency_high: float
    params: int
    macs: int
    architecture: Architecture


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, accuracy) points that no other point dominates, fastest first.

    A point dominates another if it is no slower and no less accurate, and better in one of the two. Equal points do not
    dominate each other; the first of them is kept.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area between the front of (latency, accuracy) points and a reference latency (above) and accuracy (below).

    Points that do not better the reference in both count for nothing.
    """
    worst_latency, worst_accuracy = reference
    within = [p for p in points if p[0] < worst_latency and p[1] > worst_accuracy]
    front = [within[i] for i in pareto(within)]
    until = [*(latency for latency, _ in front), worst_latency][1:]
    return sum((right - left) * (accuracy - worst_accuracy) for (left, accuracy), right in zip(front, until, strict=True))


def write_front(path: Path, rows: Sequence[FrontRow]) -> None:
    """Write `front.csv` atomically, each architecture as its canonical JSON. Raises FileError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([*(getattr(row, name) for name in _COLUMNS[:-1]), row.architecture.to_json()])
    write_text(path, text.getvalue())


def read_front(path: Path) -> list[FrontRow]:
    """The rows of a `front.csv`. Raises FileError where it is missing, damaged, or another table."""
    records = list(csv.reader(io.StringIO(read_text(path, "the front"))))
    if not records or records[0] != _COLUMNS:
        raise FileError(f"{path} is no front: its first line must be {','.join(_COLUMNS)}; write it again from the run")
    return [_row(path, number, record) for number, record in enumerate(records[1:], start=2)]


_COLUMNS = [field.name for field in fields(FrontRow)]


def _row(path: Path, number: int, record: list[str]) -> FrontRow:
    try:
        digest, accuracy, predicted, low, high, params, macs, text = record
        architecture = Architecture.from_json(text)
        row = FrontRow(digest, float(accuracy), float(predicted), float(low), float(high), int(params), int(macs), architecture)
    except (ValueError, SpaceError) as error:
        raise FileError(f"line {number} of {path} is damaged ({error}); write it again from the run") from error
    if architecture.digest != digest:
        raise FileError(f"line {number} of {path}: the architecture's digest is {architecture.digest}, not {digest}")
    return row
