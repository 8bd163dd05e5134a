"""Which column of a table is what, from its header.

In file order a table holds identifiers, the architecture, perhaps sizes (MACs, parameters), and targets: devices in
milliseconds, `latency_...` and `throughput_...` columns, accuracies in percent. Columns of standard deviations and times of
training are no targets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nas.errors import FileError, UsageError
from nas.predictors.surrogates.layout import join
from nas.predictors.tables.structures import structure_of
from nas.predictors.tables.table import Kind, Table, Target, same_rows
from nas.predictors.timings import Array

SUFFIXES = (".csv", ".csv.gz")
IDENTIFIERS = {"id", "arch_idx", "index", "arch_str", "iso_class", "dataset", "model", "bench"}
ARCHITECTURE = re.compile(r"[a-z]{1,2}\d{1,2}|[a-z]+\d{1,2}_[a-z]{1,3}|r|resolution")
SIZES = ("flops", "macs", "params")
ACCURACY = re.compile(r"acc(uracy)?\d*|top\d+|test|valid|val|train")
IGNORED = {"std", "time", "train"}


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of a table's columns by what they are."""

    architecture: tuple[str, ...]
    sizes: tuple[str, ...]
    targets: tuple[tuple[str, Kind], ...]


def roles(names: Sequence[str], whole: Sequence[str]) -> Roles:
    """What the columns of a table are, from their names and from which of them hold whole numbers alone (`whole`)."""
    rest = [name for name in names if name not in IDENTIFIERS]
    architecture: list[str] = []
    for name in rest:
        if name not in whole or not ARCHITECTURE.fullmatch(name):
            break
        architecture.append(name)
    rest = rest[len(architecture) :]
    sizes = [name for name in rest if any(word in name.lower() for word in SIZES)]
    targets = [(name, _kind(name)) for name in rest if name not in sizes and not IGNORED & set(name.lower().split("_"))]
    return Roles(tuple(architecture), tuple(sizes), tuple(targets))


def _kind(name: str) -> Kind:
    words = name.lower().split("_")
    if any(ACCURACY.fullmatch(word) for word in words):
        return "accuracy"
    return "rate" if "throughput" in words else "time"


def read_frame(path: Path) -> pd.DataFrame:
    """The rows of a table. Raises FileError where it cannot be read."""
    try:
        frame = pd.read_csv(path)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"cannot read table {path}: {reason}; it must be a CSV file with a header, gzipped or not") from error
    if frame.empty:
        raise FileError(f"table {path} has no rows; a table needs a header and a row for each architecture")
    return frame


def table_name(path: Path) -> str:
    """The name of a table: its file's, without the endings."""
    return path.name.removesuffix(".gz").removesuffix(".csv")


def whole_numbers(frame: pd.DataFrame) -> list[str]:
    """The columns that hold whole numbers alone, and of the ones named as architecture columns are, those that hold them in
    most rows and nothing else but gaps."""
    return [str(name) for name in frame.columns if pd.api.types.is_integer_dtype(frame[name]) or _has_gaps(frame, str(name))]


def _has_gaps(frame: pd.DataFrame, name: str) -> bool:
    """Whether an architecture column lacks a value in fewer than half of the rows."""
    if not ARCHITECTURE.fullmatch(name):
        return False
    values = numbers(frame, [name])[name]
    there = values[np.isfinite(values)]
    return len(values) / 2 < len(there) < len(values) and bool((there == np.round(there)).all())


def spelt_out(name: str, frame: pd.DataFrame, architecture: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that have all architecture columns, and notes about the others. Raises UsageError where none has."""
    there = {column: np.isfinite(values) for column, values in numbers(frame, architecture).items()}
    whole = np.all(list(there.values()), axis=0)
    gaps = ", ".join(column for column, known in there.items() if not known.all())
    if not whole.any():
        raise UsageError(f"no row of table {name} has all its architecture columns: {gaps} have gaps; fill them")
    notes = (f"{name}: {int((~whole).sum())} rows without {gaps} are left out",) if gaps else ()
    return frame[whole].reset_index(drop=True), notes


def numbers(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, Array]:
    """Columns as float arrays (n,); what is no number becomes NaN."""
    return {name: pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64) for name in names}


def make_table(
    name: str, architecture: Mapping[str, Array], sizes: Mapping[str, Array], found: Roles, frame: pd.DataFrame
) -> Table:
    """The table of architecture and size columns (n,) by name, with the targets that the roles name."""
    whole = {key: column for key, column in sizes.items() if np.isfinite(column).all()}
    encoded = structure_of(found.architecture).encode(architecture, whole)
    features, layout = join(encoded.groups)
    notes = [f"{name}: {encoded.note}"] if encoded.note else []
    targets = []
    for target, kind in found.targets:
        values = numbers(frame, [target])[target]
        known = np.isfinite(values) & ((values > 0) | (kind == "accuracy"))
        if missing := int((~known & encoded.valid).sum()):
            notes.append(f"{name}: {missing} rows without {target} are left out for it")
        rows = np.flatnonzero(known & encoded.valid)
        targets.append(Target(target, kind, rows, values[rows]))
    twins = encoded.twins if encoded.twins is not None else same_rows(features)
    return Table(name, features, layout, tuple(targets), tuple(notes), twins)
