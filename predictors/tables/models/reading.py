"""Tables of published networks by name, with how long a step of each took, as timm's benchmark writes them.

Columns: `model`; `..._img_size`; `..._batch_size` (1 where there is none); `..._step_time` in milliseconds, or
`..._samples_per_sec`; and perhaps `bench`, the device and the runtime, each of which is then a target of its own. What is
predicted is the time of one image in milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nas.errors import UsageError
from nas.predictors.surrogates.layout import Flags, join
from nas.predictors.tables.models.catalogue import Key, find_amounts
from nas.predictors.tables.models.groups import groups
from nas.predictors.tables.table import Table, Target, same_rows
from nas.predictors.timings import Array

MODEL, BENCH = "model", "bench"
STEP_TIME, RATE, BATCH, IMAGE = "step_time", "samples_per_sec", "batch_size", "img_size"
MILLISECONDS = 1e3
SHOWN = 3


def names_models(columns: Sequence[str]) -> bool:
    """Whether a table's columns are those of published networks by name."""
    return MODEL in columns and any(_column(columns, ending) for ending in (STEP_TIME, RATE)) and bool(_column(columns, IMAGE))


def read_models(name: str, frame: pd.DataFrame, amounts_file: Path | None = None) -> Table:
    """The table of published networks whose amounts are known. Raises UsageError where those of none are."""
    columns = [str(column) for column in frame.columns]
    batches = _numbers(frame, _column(columns, BATCH))
    batches = np.where(batches >= 1, batches, 1.0)
    keys = keys_of(frame)
    found = find_amounts(keys, amounts_file)
    known = np.array([key in found for key in keys])
    if not known.any():
        raise UsageError(
            f"table {name} names {len(set(keys))} networks, such as {keys[0][0]}, of which none is known; "
            "install timm, or give the amounts of their operations"
        )
    example = next(iter(found.values()))
    sizes = np.array([size for _, size in keys], np.float64)
    amounts = np.stack([found.get(key, example) for key in keys])
    features, layout = join(groups(amounts, sizes, batches))
    notes = _strangers(name, {key for key in keys if key not in found})
    targets = _targets(name, frame, batches, known, notes)
    twins = same_rows(np.column_stack([amounts, sizes, batches]))
    families = tuple(family(model) for model, _ in keys)
    return Table(name, features, layout, targets, tuple(notes), twins, families, "share")


def keys_of(frame: pd.DataFrame) -> list[Key]:
    """The name of each row's network, and its image size; 0 where that is no number."""
    sizes = np.nan_to_num(_numbers(frame, _column([str(column) for column in frame.columns], IMAGE)))
    return [(str(model), int(size)) for model, size in zip(frame[MODEL], sizes, strict=True)]


def _targets(name: str, frame: pd.DataFrame, batches: Array, known: Flags, notes: list[str]) -> tuple[Target, ...]:
    """A target for each device; what is left out joins the notes."""
    columns = [str(column) for column in frame.columns]
    step, rate = _column(columns, STEP_TIME), _column(columns, RATE)
    with np.errstate(divide="ignore"):
        times = _numbers(frame, step) / batches if step else MILLISECONDS / _numbers(frame, rate)
    benches = frame[BENCH].astype(str).to_numpy() if BENCH in columns else np.full(len(frame), step or rate)
    timed = np.isfinite(times) & (times > 0)
    found = []
    for bench in sorted(set(benches)):
        mine = (benches == bench) & known
        if missing := int((mine & ~timed).sum()):
            notes.append(f"{name}: {missing} rows without {bench} are left out for it")
        rows = np.flatnonzero(mine & timed)
        found.append(Target(bench, "time", rows, times[rows]))
    return tuple(found)


def _strangers(name: str, keys: set[Key]) -> list[str]:
    """A line about networks whose amounts are not known, if there are any."""
    shown = ", ".join(f"{model} at {size}" for model, size in sorted(keys)[:SHOWN])
    return [f"{name}: {len(keys)} networks that neither the amounts nor timm know are left out: {shown}"] if keys else []


def _column(columns: Sequence[str], ending: str) -> str | None:
    """The first column that ends so."""
    return next((column for column in columns if column.endswith(ending)), None)


def _numbers(frame: pd.DataFrame, column: str | None) -> Array:
    """A column as floats (n,); NaN for what is no number, and where there is no such column."""
    if column is None:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)


def family(model: str) -> str:
    """What a network is akin to: the letters that its name begins with."""
    found = re.match(r"[a-z]+", model.lower())
    return found.group() if found else model
