"""Tables of real results as files: which columns are genes, accuracies, latencies and sizes is read out of the header.

A folder holds `*.csv` or `*.csv.gz` files. In each, the genes are the first run of columns with small whole numbers (behind
an identifier with another value in every row); tables with the same genes are joined on them. Of the rest, names with
`acc`, `top1`, `_test` or `_valid` are accuracies; `acc0`, `acc1` ... are training seeds of one; `macs`, `flops` and `params`
are sizes; a name with `throughput` is a speed; every other numeric column is a latency in milliseconds, but for spreads,
energy, power, epochs and training times.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.errors import FileError

Column = NDArray[np.float64]
MOST_CHOICES = 64
FEWEST_GENES = 4
FEWEST_ROWS = 8
SAME = 1e-9
_ACCURACY = re.compile(r"(^|_)acc(uracy)?(\d*|_.*)$|top1|_(test|valid)$", re.IGNORECASE)
_SEED = re.compile(r"^(.*acc)_?(\d+)$", re.IGNORECASE)
_SIZE = re.compile(r"(macs|flops|params?|param_count)$", re.IGNORECASE)
_SPEED = re.compile(r"throughput", re.IGNORECASE)
_IGNORED = re.compile(r"(_std|_std_ms|time|top5|_idx|^id|_class|epochs?)$|energy|(^|_)power(_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Rows of a space: `genes` (rows, genes) of whole numbers, columns by name with NaN where a row says nothing.

    `accuracies` are in the table's own unit, `latencies` in seconds (of a step, or of an image where the table gives a
    throughput), `seed_columns` the training seeds of accuracies, by the columns' names.
    """

    name: str
    gene_names: tuple[str, ...]
    genes: NDArray[np.int64]
    accuracies: dict[str, Column] = field(default_factory=dict)
    latencies: dict[str, Column] = field(default_factory=dict)
    sizes: dict[str, Column] = field(default_factory=dict)
    seed_columns: dict[str, Column] = field(default_factory=dict)

    @cached_property
    def seeds(self) -> dict[str, tuple[Column, ...]]:
        """The training seeds of each accuracy that has some, each (rows,)."""
        found: dict[str, tuple[Column, ...]] = {}
        for name, column in self.seed_columns.items():
            accuracy = _SEED.sub(r"\1", name)
            found[accuracy] = (*found.get(accuracy, ()), column)
        return found


def read_tables(folder: Path) -> tuple[list[Table], list[str]]:
    """The tables of a folder, joined where they share their genes, and notes on what was left out.

    Raises FileError where the folder or a file cannot be read, or no table in it has genes and results.
    """
    paths = sorted(path for path in folder.glob("*") if path.name.endswith((".csv", ".csv.gz"))) if folder.is_dir() else []
    if not paths:
        raise FileError(f"no tables in {folder}: name a folder that holds .csv or .csv.gz files with a header")
    joined: dict[tuple[str, ...], Table] = {}
    notes: list[str] = []
    for path in paths:
        table = _table(path, notes)
        if table is not None:
            same = joined.get(table.gene_names)
            joined[table.gene_names] = table if same is None else _join(same, table)
    found = [table for table in joined.values() if table.accuracies or table.latencies or table.seeds]
    if not found:
        raise FileError(
            f"no table in {folder} begins with at least {FEWEST_GENES} columns of genes and has results; "
            "see `nas bench search --help`"
        )
    return found, notes


def _table(path: Path, notes: list[str]) -> Table | None:
    """The table of a file, or None, with a note, where it has no genes."""
    name = path.name.split(".csv")[0]
    frame = _frame(path)
    genes = gene_columns(frame)
    if len(genes) < FEWEST_GENES:
        notes.append(f"{name}: skipped, as its first columns are no genes (whole numbers with few values)")
        return None
    whole = frame.dropna(subset=genes).drop_duplicates(subset=genes)
    if len(whole) < len(frame):
        notes.append(f"{name}: {len(frame) - len(whole)} rows left out, with no genes or with those of an earlier row")
    if len(whole) < FEWEST_ROWS:
        raise FileError(f"{path} has {len(whole)} rows with genes; a table to search needs at least {FEWEST_ROWS}")
    table = Table(name, tuple(genes), whole[genes].to_numpy(dtype=np.int64))
    first = list(frame.columns).index(genes[-1]) + 1
    for column in frame.columns[first:]:
        _sort_in(table, str(column), whole[column], notes)
    return table


def _frame(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"cannot read the table {path}: {' '.join(str(error).split())}") from error


def gene_columns(frame: pd.DataFrame) -> list[str]:
    """The first run of columns that hold whole numbers of at most 64 values, none below zero, not another one in every row."""
    found: list[str] = []
    for name in frame.columns:
        values = frame[name].dropna()
        result = any(pattern.search(str(name)) for pattern in (_ACCURACY, _SEED, _SIZE, _IGNORED))
        choices = values.nunique()
        numeric = not result and pd.api.types.is_numeric_dtype(values) and 0 < choices <= MOST_CHOICES and choices < len(values)
        if numeric and bool((values == values.round()).all()) and values.min() >= 0:
            found.append(str(name))
        elif found:
            break
    return found


def _sort_in(table: Table, name: str, column: pd.Series, notes: list[str]) -> None:
    """Put a column where its name says it belongs, with NaN for what is no finite number; one of nothing else gets a note."""
    if not pd.api.types.is_numeric_dtype(column) or _IGNORED.search(name):
        return
    values = column.to_numpy(dtype=float, copy=True)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        notes.append(f"{table.name}: column {name} left out, as it holds no numbers")
        return
    if _SEED.match(name):
        table.seed_columns[name] = values
    elif _ACCURACY.search(name):
        table.accuracies[name] = values
    elif _SIZE.search(name):
        table.sizes[name] = values
    elif _SPEED.search(name):
        table.latencies[name] = 1.0 / np.where(values > 0, values, np.nan)
    else:
        table.latencies[name] = 1e-3 * np.where(values > 0, values, np.nan)


def _join(first: Table, second: Table) -> Table:
    """Both tables' columns on the rows of either; NaN where neither says anything. Raises FileError where they disagree."""
    genes = np.unique(np.concatenate([first.genes, second.genes]), axis=0)
    index = {tuple(row): number for number, row in enumerate(genes.tolist())}

    def spread(table: Table, column: Column) -> Column:
        wide = np.full(len(genes), np.nan)
        wide[[index[tuple(row)] for row in table.genes.tolist()]] = column
        return wide

    def filled(name: str, one: Column, other: Column) -> Column:
        both = np.isfinite(one) & np.isfinite(other)
        differ = np.flatnonzero(both & ~np.isclose(one, other, rtol=SAME, atol=0.0))
        if len(differ):
            raise FileError(
                f"tables {first.name} and {second.name} disagree about {name} in {len(differ)} rows, first in that of the "
                f"genes {', '.join(map(str, genes[differ[0]]))}; keep one of them, or rename the column in one"
            )
        return np.where(np.isfinite(one), one, other)

    def merged(kind: str) -> dict[str, Column]:
        found = {name: spread(first, column) for name, column in getattr(first, kind).items()}
        for name, column in getattr(second, kind).items():
            wide = spread(second, column)
            found[name] = filled(name, found[name], wide) if name in found else wide
        return found

    name = common_name([first.name, second.name])
    return Table(
        name, first.gene_names, genes, *(merged(kind) for kind in ("accuracies", "latencies", "sizes", "seed_columns"))
    )


def common_name(names: Sequence[str]) -> str:
    """The part that all names begin with, or the first name."""
    length = next((i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), min(map(len, names)))
    return names[0][:length].rstrip("_- ") or names[0]
