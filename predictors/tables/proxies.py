"""Tables of zero-cost proxies, whose architectures another table of the same folder spells out.

Columns: `arch_idx`, proxies, accuracies, and perhaps `dataset`, each of which is then a target of its own. The other table is
the first whose name begins with the same word and that has `arch_idx` and architecture columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nas.errors import UsageError
from nas.predictors.surrogates.layout import PROXIES, Layout
from nas.predictors.tables.columns import Roles, make_table, numbers, roles
from nas.predictors.tables.table import Table, Target
from nas.predictors.timings import Array

INDEX, DATASET = "arch_idx", "dataset"
KNOWN = {"synflow", "nwot", "naswot", "jacov", "snip", "grad_norm", "zen", "fisher", "grasp"}
LEAST = 2


def names_proxies(columns: Sequence[str]) -> bool:
    """Whether a table's columns are proxies of architectures that it names by number alone."""
    return INDEX in columns and len(KNOWN & set(columns)) >= LEAST


def read_proxies(name: str, frame: pd.DataFrame, spelt: pd.DataFrame, architecture: Sequence[str]) -> Table:
    """The table of the rows of `frame` whose architecture is among the rows of `spelt`, with its proxies as features.

    Raises UsageError where none is.
    """
    joined = frame.merge(spelt[[INDEX, *architecture]].drop_duplicates(INDEX), on=INDEX, how="inner")
    if joined.empty:
        raise UsageError(f"table {name} and the table beside it have no {INDEX} in common; they are of different spaces")
    accuracies = tuple((column, kind) for column, kind in roles(list(frame.columns), ()).targets if kind == "accuracy")
    others = [column for column in frame.columns if column not in {INDEX, DATASET, *dict(accuracies)}]
    table = make_table(name, numbers(joined, architecture), {}, Roles(tuple(architecture), (), accuracies), joined)
    if DATASET in joined.columns:
        table = replace(table, targets=_by_dataset(table.targets, joined[DATASET].astype(str).to_numpy()))
    if missing := len(frame) - len(joined):
        table = replace(table, notes=(*table.notes, f"{name}: {missing} rows whose {INDEX} nothing spells out are left out"))
    return with_proxies(table, numbers(joined, others))


def with_proxies(table: Table, proxies: Mapping[str, Array]) -> Table:
    """The table with proxies (n,) by name as further columns; those that are missing in some row are left out.

    They are scaled as asinh(x / median |x|), since some of them span many powers of ten on both sides of zero.
    """
    whole = [column for column in proxies.values() if np.isfinite(column).all() and np.ptp(column) > 0]
    scaled = [np.arcsinh(column / max(float(np.median(np.abs(column))), 1e-9)) for column in whole]
    layout = Layout((*table.layout.widths, (PROXIES, len(scaled))))
    return replace(table, features=np.column_stack([table.features, *scaled]), layout=layout)


def without_proxies(table: Table) -> Table:
    """The table without the proxies that `with_proxies` added."""
    *widths, (_, number) = table.layout.widths
    return replace(table, features=table.features[:, : table.layout.width - number], layout=Layout(tuple(widths)))


def _by_dataset(targets: Sequence[Target], datasets: np.ndarray) -> tuple[Target, ...]:
    """The targets, one for each data set where there are several."""
    names = sorted(set(datasets))
    if len(names) < 2:
        return tuple(targets)
    found = []
    for one in targets:
        for name in names:
            mine = datasets[one.rows] == name
            found.append(Target(f"{name}_{one.name}", one.kind, one.rows[mine], one.values[mine]))
    return tuple(found)
