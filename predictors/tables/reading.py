"""Tables from files: of architectures that they spell out, of published networks by name, or of proxies by number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from nas.errors import UsageError
from nas.predictors.tables.columns import SUFFIXES, make_table, numbers, read_frame, roles, spelt_out, table_name, whole_numbers
from nas.predictors.tables.models.reading import names_models, read_models
from nas.predictors.tables.proxies import INDEX, names_proxies, read_proxies
from nas.predictors.tables.table import Table


def read_table(path: Path, amounts_file: Path | None = None) -> Table:
    """A table of architectures of one space, or of published networks, whose amounts are in `amounts_file` or known otherwise.

    Raises FileError, and UsageError where nothing tells its architectures.
    """
    frame, name = read_frame(path), table_name(path)
    columns = [str(column) for column in frame.columns]
    if names_models(columns):
        return read_models(name, frame, amounts_file)
    found = roles(columns, whole_numbers(frame))
    if found.architecture:
        frame, notes = spelt_out(name, frame, found.architecture)
        table = make_table(name, numbers(frame, found.architecture), numbers(frame, found.sizes), found, frame)
        return replace(table, notes=(*notes, *table.notes))
    if names_proxies(columns) and (spelt := _spelt_out(path)) is not None:
        return read_proxies(name, frame, *spelt)
    raise UsageError(
        f"table {path} has no architecture columns such as e01, l00, block0_k or ks00 after its identifiers, names no "
        f"published networks, and holds no proxies whose {INDEX} a table beside it spells out"
    )


def _spelt_out(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]] | None:
    """The rows of the first table beside a table that spells out architectures by number and whose name begins with the same
    word, and its architecture columns."""
    word = table_name(path).split("_")[0]
    for other in sorted(path.parent.iterdir()):
        if other == path or not other.name.endswith(SUFFIXES) or table_name(other).split("_")[0] != word:
            continue
        frame = read_frame(other)
        found = roles([str(column) for column in frame.columns], whole_numbers(frame))
        if INDEX in frame.columns and found.architecture:
            return spelt_out(table_name(other), frame, found.architecture)[0], found.architecture
    return None
