"""Surrogates on the tables of a folder, beside the best published baselines of the same protocol.

    python benchmarks/predictors.py --tables DIR [--rows benchmarks/results/predictors.jsonl]

Runs `nas bench predictors` (auto and table, five seeds, 50 to 900 training rows, and each device again from 20 rows and the
other devices; published networks at random and by family; accuracies with and without zero-cost proxies), or goes on with the
rows that it stopped at, and writes benchmarks/results/predictors.{json,md}. Baselines are figures of ordinary methods on the
same splits, means over all the devices of a space, of which a table here may hold some.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import UsageError
from nas.predictors.tables import SUFFIXES, read_table
from nas.predictors.tables.noise import Floor, noise_floor
from nas.predictors.tables.rows import CODE, Row, current, read_rows
from nas.predictors.tables.variants import FAMILIES_HELD_OUT

RESULTS = Path(__file__).parent / "results"
SIZES = (50, 100, 200, 900)

BEST_TIMES = {
    "nb201_latency": {50: (4.3, 88.4), 100: (4.8, 87.9), 200: (3.9, 89.0), 900: (3.7, 89.2)},
    "fbnet_latency": {50: (5.6, 85.1), 100: (5.6, 85.2), 200: (5.4, 85.9), 900: (1.4, 96.7)},
    "ofa_latency": {50: (6.8, 77.9), 100: (6.9, 77.8), 200: (6.1, 81.6), 900: (4.5, 89.2)},
    "accel_nasbench": {50: (14.5, 45.2), 100: (10.4, 59.8), 200: (7.2, 76.0), 900: (3.5, 94.4)},
}
"""The best mean MAPE and the best mean share within 10 %, in percent, of all baselines, by training rows."""
BEST_KENDALL = {
    "nb201_accuracy": {50: 0.633, 100: 0.710, 200: 0.757, 900: 0.825},
    "nb_macro_cifar10": {50: 0.782, 100: 0.841, 200: 0.861, 900: 0.900},
    "accel_nasbench": {50: 0.610, 100: 0.762, 200: 0.803, 900: 0.864},
    "nb201_zero_cost": {50: 0.754, 100: 0.793, 200: 0.814},
    "nb201_zero_cost+proxies": {50: 0.754, 100: 0.793, 200: 0.814},
}
BEST_MODELS = {
    "fp32-nchw-pt240-cpu-i7_12700h-dynamo": (57, 50),
    "amp-nchw-pt291-cu128-4090": (37, 30),
    "amp-nchw-pt291-cu128-4090-dynamo": (45, 39),
}
"""The best share within 10 %, in percent, of trees and lines on MACs, activations, parameters and resolution: at random, and
with other families held out."""

INTRODUCTION = (
    "Means over targets and seeds 0 to 4. `auto` weighs its members by cross-validation inside the training rows; what its",
    "members are was chosen on seeds 5 to 8. Baseline: the best of some twelve ordinary methods on the same splits, each cell",
    "its own, over sets of devices of which the tables here hold a part.",
)
NOISE = (
    "Noise floor: what an oracle would score against measurements that repeat themselves no better than these do, from pairs",
    "of rows that are the same network (cells whose inner nodes are numbered otherwise, published networks that run the same",
    "operations). The lower figure is for few disturbed measurements, the upper one for Gaussian errors. FBNet's table has no",
    "such pairs, but its errors follow one another in the order of its rows, which says nothing of the networks: once the",
    "median of the ten neighbours' errors is taken off, those within 10 % are 97 % instead of 56 % on essential_ph_1, 96 %",
    "instead of 90 % on samsung_a50, and 98 % instead of 95 % on gold_6226 (table_gp, 900 rows, seed 5).",
)


def main() -> None:
    """Run, or go on, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--rows", type=Path, default=RESULTS / "predictors.jsonl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--report-only", action="store_true", help="write the files from the rows that there are")
    options = parser.parse_args()
    if not options.report_only:
        common = ["--tables", options.tables, "--out", options.rows, "--methods", "auto,table", "--seeds", options.seeds]
        command = [sys.executable, "-m", "nas", "bench", "predictors", *common, "--transfer", 20]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    stored = read_rows(options.rows)
    rows = current(stored, stored[-1].get(CODE) if stored else None)
    print(f"{len(rows)} rows of one code; {len(stored) - len(rows)} older ones are not counted")
    (RESULTS / "predictors.json").write_text(json.dumps(means(rows), indent=1) + "\n")
    (RESULTS / "predictors.md").write_text(report(rows, floors(options.tables)))


def means(rows: Iterable[Row]) -> list[Row]:
    """The mean over seeds of each table, target, size and method, the number of seeds and the MAPE's standard error."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        size = None if row["table"].endswith(FAMILIES_HELD_OUT) else row["train_size"]
        groups.setdefault((row["table"], row["target"], size, row["method"]), []).append(row)
    figures = ("mape", "within_5", "within_10", "spearman", "kendall", "coverage_90")
    return [
        {
            **dict(zip(("table", "target", "train_size", "method"), key, strict=True)),
            **{name: round(float(np.mean([row[name] for row in found])), 5) for name in figures},
            "mape_error": round(float(np.std([row["mape"] for row in found]) / max(len(found) - 1, 1) ** 0.5), 5),
            "seeds": len(found),
        }
        for key, found in sorted(groups.items(), key=lambda item: tuple(str(part) for part in item[0]))
    ]


def floors(folder: Path) -> dict[tuple[str, str], Floor]:
    """The noise floor of each table and target that has one."""
    found = {}
    for path in sorted(file for file in folder.iterdir() if file.name.endswith(SUFFIXES)):
        try:
            table = read_table(path)
        except UsageError:
            continue
        measured = {target.name: noise_floor(table, target) for target in table.targets}
        found |= {(table.name, name): floor for name, floor in measured.items() if floor is not None}
    return found


def is_accuracy(row: Row) -> bool:
    """Whether a row is about an accuracy; their names say so in all tables here."""
    return any(word in row["target"] for word in ("acc", "top", "test"))


def report(rows: list[Row], noise: dict[tuple[str, str], Floor]) -> str:
    """The figures as tables for people."""
    found = means(rows)
    lines = ["# Surrogates on tables of measured and trained architectures", "", *INTRODUCTION, ""]
    lines += ["## Devices: MAPE, share within 10 %, Spearman, cover of the 90 % interval", ""]
    lines += [
        "| table | rows | targets x seeds | auto | table alone | best baseline (MAPE, within 10 %) |",
        "|---|---|---|---|---|---|",
    ]
    for table, best in BEST_TIMES.items():
        lines += [_times_line(table, size, best[size], found) for size in SIZES if _some(found, table, size, is_time)]
    lines += [
        "",
        "## Accuracies: Kendall",
        "",
        "| table | target | rows | seeds | auto | best baseline |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        best_here = BEST_KENDALL.get(row["table"], {}).get(row["train_size"])
        if is_accuracy(row) and row["method"] == "auto" and best_here:
            cells = (row["table"], row["target"], row["train_size"], row["seeds"], f"{row['kendall']:.3f}", best_here)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "## A new device from 20 rows and the other devices",
        "",
        "| table | devices x seeds | mean Spearman |",
        "|---|---|---|",
    ]
    for table in BEST_TIMES:
        some = [row for row in found if row["table"] == table and row["method"] == "transfer"]
        if some:
            rho = float(np.mean([row["spearman"] for row in some]))
            lines.append(f"| {table} | {len(some)} x {some[0]['seeds']} | {rho:.3f} |")
    lines += ["", "## Published networks by name, 80 % of which train: share within 10 %, MAPE", "", *_models(found, noise)]
    lines += ["", "## Devices one by one: MAPE of auto (standard error)", "", *_devices(found, noise)]
    return "\n".join([*lines, "", *NOISE, ""])


def _models(found: list[Row], noise: dict[tuple[str, str], Floor]) -> list[str]:
    """A line for each device and split of tables that name their networks."""
    lines = [
        "| table | device | seeds | auto | table alone | 90 % covers | whole-network features | noise floor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    named = {row["table"].removesuffix(FAMILIES_HELD_OUT) for row in found if row["table"].endswith(FAMILIES_HELD_OUT)}
    for row in found:
        base = row["table"].removesuffix(FAMILIES_HELD_OUT)
        if base not in named or row["method"] != "auto":
            continue
        alone = [one for one in found if (one["table"], one["target"], one["method"]) == (row["table"], row["target"], "table")]
        best = BEST_MODELS.get(row["target"])
        cells = [
            row["table"], row["target"], row["seeds"], *(f"{one['within_10']:.1%}, {one['mape']:.1%}" for one in (row, *alone)),
            f"{row['coverage_90']:.0%}", f"{best[row['table'] != base]} %" if best else "-",
            _floor(noise.get((base, row["target"]))),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _floor(floor: Floor | None) -> str:
    if floor is None:
        return "-"
    return f"{floor.mape[0]:.1%} to {floor.mape[1]:.1%} ({floor.within_10[0]:.0%} to {floor.within_10[1]:.0%})"


def is_time(row: Row) -> bool:
    """Whether a row is about a device."""
    return not is_accuracy(row)


def _some(found: list[Row], table: str, size: int, keep: Callable[[Row], bool], method: str = "auto") -> list[Row]:
    return [r for r in found if (r["table"], r["train_size"], r["method"]) == (table, size, method) and keep(r)]


def _times_line(table: str, size: int, best: tuple[float, float], found: list[Row]) -> str:
    some = _some(found, table, size, is_time)
    shown = [_times(some), _times(_some(found, table, size, is_time, "table"))]
    runs = f"{len(some)} x {'-'.join(str(number) for number in sorted({row['seeds'] for row in some}))}"
    return f"| {table} | {size} | {runs} | {shown[0]} | {shown[1]} | {best[0]} % / {best[1]} % |"


def _times(some: list[Row]) -> str:
    if not some:
        return "-"
    mape, ten, rho, cover = (
        float(np.mean([row[name] for row in some])) for name in ("mape", "within_10", "spearman", "coverage_90")
    )
    return f"{mape:.1%} / {ten:.1%} / {rho:.3f} / {cover:.0%}"


def _devices(found: list[Row], noise: dict[tuple[str, str], Floor]) -> list[str]:
    head = " | ".join(f"{size} rows" for size in SIZES)
    lines = [f"| table | device | {head} | noise floor (within 10 %) |", "|---|---|" + "---|" * (len(SIZES) + 1)]
    keys = sorted({(row["table"], row["target"]) for row in found if is_time(row) and row["train_size"] in SIZES})
    for table, target in keys:
        cells = []
        for size in SIZES:
            some = [row for row in _some(found, table, size, is_time) if row["target"] == target]
            cells.append(f"{some[0]['mape']:.1%} ({some[0]['mape_error']:.1%})" if some else "-")
        lines.append(f"| {table} | {target} | " + " | ".join([*cells, _floor(noise.get((table, target)))]) + " |")
    return lines


if __name__ == "__main__":
    main()
