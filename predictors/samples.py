"""Every raw sample of a profile, beside its table: `TABLE.samples.jsonl.gz`, one JSON line a visit.

The file only grows: each write appends one gzip member and syncs it, and a member that a crash cut off is dropped when the
file is opened again. `pandas.read_json(path, lines=True)` reads it whole. The fields of a line:

`what` is `network`, `companion` (a network that was measured before, `nas.predictors.companions`), `node` or `anchor`, and
`id` the architecture's digest or the node's key, `KEY x8` where eight copies of a node ran as one, `x0` for a call without any;
`seconds` are the single runs of the visit, as the clock gave them, `beside` the anchor's seconds around each of them where it
ran there, `round` the interleaved round it belonged to, `at` when it began (seconds since 1970) and `interruptions` how often
other work took the core. `device`, `runtime`, `version`, `precision`, `batch` and `threads` say where it ran; `clock_hz`,
`governor`, `load`, `throttles`, `celsius` and `cpus` how the machine was, where that can be read.

A line whose `what` is `energy` is one round of counting a network's energy: `joules` in `runs` runs during `spell` seconds of
work, and `rest_joules` during `rest_spell` seconds of rest before it, as `meter` counted them.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nas.errors import FileError
from nas.predictors.energy import Round
from nas.predictors.target import Target
from nas.predictors.timings import Visit

Record = Callable[[str, str, Visit], None]
"""Takes what was visited, its identity, and the visit."""
GZIP = 31


def unrecorded(what: str, identity: str, visit: Visit) -> None:
    """Keep nothing."""


def samples_path(table: Path) -> Path:
    """Where the samples of a table lie."""
    return table.with_name(f"{table.stem}.samples.jsonl.gz")


class SampleFile:
    """The samples of one profile, for appending. Raises FileError where the file cannot be written."""

    def __init__(self, path: Path, target: Target, version: str) -> None:
        self.path = path
        self._about = {
            "device": target.device,
            "runtime": target.runtime,
            "version": version,
            "precision": target.precision,
            "batch": target.batch,
            "threads": target.threads,
        }
        self._waiting: list[str] = []
        if path.exists():
            _drop_torn_end(path)

    def add(self, what: str, identity: str, visit: Visit) -> None:
        """Take one visit; `flush` writes it."""
        line: dict[str, Any] = {"what": what, "id": identity, "at": visit.at, "round": visit.round}
        line |= {"seconds": visit.seconds, "interruptions": visit.interruptions}
        line |= {"beside": visit.beside} if visit.beside else {}
        line |= {**self._about, **visit.state.to_mapping()}
        self._waiting.append(json.dumps(line) + "\n")

    def add_energy(self, identity: str, number: int, meter: str, found: Round) -> None:
        """Take the `number`-th round of counting a network's energy; `flush` writes it."""
        line: dict[str, Any] = {"what": "energy", "id": identity, "at": found.at, "round": number, "meter": meter}
        line |= {"joules": found.joules, "spell": found.seconds, "runs": found.runs}
        line |= {"rest_joules": found.rest_joules, "rest_spell": found.rest_seconds}
        self._waiting.append(json.dumps({**line, **self._about, **found.state.to_mapping()}) + "\n")

    def flush(self) -> None:
        """Append what waits, and wait until it is on the disk."""
        if not self._waiting:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(gzip.compress("".join(self._waiting).encode()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}; free some space") from error
        self._waiting.clear()


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of samples; what a crash cut off at its end is left out. Raises FileError."""
    data = _read(path)
    for line in gzip.decompress(data[: _whole(data)]).decode().splitlines():
        yield json.loads(line)


def _drop_torn_end(path: Path) -> None:
    data = _read(path)
    end = _whole(data)
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)


def _whole(data: bytes) -> int:
    """The length of the gzip members at the start that are complete."""
    end, view = 0, memoryview(data)
    while end < len(data):
        member = zlib.decompressobj(GZIP)
        try:
            member.decompress(view[end:])
        except zlib.error:
            break
        if not member.eof:
            break
        end = len(data) - len(member.unused_data)
    return end


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read the samples {path}: {error.strerror or error}") from error
