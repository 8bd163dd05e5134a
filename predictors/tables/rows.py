"""Rows of figures in a file of JSON lines, and which of them were measured by this code on these tables.

A row carries two digests: `code`, of the sources that made it, and `content`, of what its table held. Rows of other code or of
another table of the same name are never counted beside newer ones; of the same job, the last row counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import FileError
from nas.files import read_text, write_text
from nas.predictors.tables.table import Table, Target

Row = dict[str, Any]
JOB = ("table", "target", "train_size", "seed", "method")
CODE, CONTENT = "code", "content"
SOURCES = ("surrogates", "tables", "assessment.py")
LENGTH = 12


@cache
def code_digest() -> str:
    """The digest of the sources that surrogates, tables and figures come of. Surrogates of other packages are not in it."""
    root, found = Path(__file__).parent.parent, hashlib.sha256()
    for name in SOURCES:
        for path in sorted((root / name).rglob("*.py")) or [root / name]:
            found.update(path.relative_to(root).as_posix().encode() + b"\n" + path.read_bytes())
    return found.hexdigest()[:LENGTH]


def content_digest(table: Table, targets: Iterable[Target]) -> str:
    """The digest of a table's features and of some of its targets.

    Of the features (n, d) there are sums over the rows, weighed by their places, to eight digits: the last bits of what is
    computed from the architectures differ between machines.
    """
    sums = np.arange(1, len(table.features) + 1) @ table.features
    found = hashlib.sha256(repr((table.layout.widths, table.families, table.split)).encode())
    found.update(" ".join(f"{value:.8g}" for value in sums).encode())
    for target in targets:
        found.update(f"{target.name} {target.kind}".encode() + target.rows.tobytes() + target.values.tobytes())
    return found.hexdigest()[:LENGTH]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file; a last line that was cut off is dropped, in the file too.

    Raises FileError for any other damage.
    """
    if not path.exists():
        return []
    rows: list[Row] = []
    lines = read_text(path, "rows").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise FileError(f"rows {path} are damaged in line {number}; delete the file to start afresh") from error
            write_text(path, "".join(line + "\n" for line in lines[:-1]))
    return rows


def append_row(path: Path, row: Row) -> None:
    """Write a row behind the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def current(rows: Iterable[Row], code: str | None, contents: Mapping[tuple[Any, ...], str] | None = None) -> list[Row]:
    """The rows that the code of this digest measured, on what their tables hold now where `contents` has it by job; of each
    job the last."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        job = tuple(row[name] for name in JOB)
        if row.get(CODE) == code and row.get(CONTENT) == (contents or {}).get(job, row.get(CONTENT)):
            found[job] = row
    return list(found.values())
