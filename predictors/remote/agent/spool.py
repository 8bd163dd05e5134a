"""The spool: jobs and results as files, each whole or not there. A shared folder is a spool; so is an agent's own memory.

    jobs/ID.job        handed in; ID.1.job: handed in again, after the agent died while it measured it
    running/ID.job     being measured
    results/ID.result  measured, or failed; kept until the client has fetched it

A job moves on by renaming its file, which only one process can do, and a job that is known is never taken in again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nas.errors import FileError
from nas.predictors.remote.agent.wire import Message, WireError, seal, unseal

ATTEMPTS = 2
KEEP_SECONDS = 7 * 24 * 3600.0
UNKNOWN, WAITING, RUNNING, DONE = "unknown", "waiting", "running", "done"


class Spool:
    """The jobs and results in a folder, sealed with a secret. Raises FileError where the folder cannot be used."""

    def __init__(self, folder: Path, secret: bytes) -> None:
        self.folder, self._secret = folder, secret
        for part in ("jobs", "running", "results"):
            try:
                (folder / part).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FileError(f"cannot use the folder {folder}: {error.strerror or error}; choose another one") from error

    def put(self, name: str, header: Mapping[str, Any], body: bytes) -> None:
        """Hand in a job. One that is known already, in whatever state, stays as it is."""
        if self.state(name) == UNKNOWN:
            write_whole(self.folder / "jobs" / f"{name}.job", seal(self._secret, _kept_label("job", name), header, body))

    def state(self, name: str) -> str:
        """What has become of a job."""
        # In the order in which a job moves on, so that it is not missed between two places.
        for state, part in ((WAITING, "jobs"), (RUNNING, "running"), (DONE, "results")):
            if any(self._of(part, name)):
                return state
        return UNKNOWN

    def take(self) -> str | None:
        """The oldest job, which is now being measured; None where there is none."""
        for path in sorted(self._files("jobs"), key=_age):
            try:
                path.rename(self.folder / "running" / path.name)
            except FileNotFoundError:
                continue
            return path.name.split(".")[0]
        return None

    def job(self, name: str) -> Message:
        """A job that is being measured. Raises WireError where its file is damaged or of another secret."""
        return self._read(next(self._of("running", name)), "job", name)

    def finish(self, name: str, header: Mapping[str, Any], body: bytes) -> None:
        """Leave the result of a job."""
        write_whole(self.folder / "results" / f"{name}.result", seal(self._secret, _kept_label("result", name), header, body))
        for path in self._of("running", name):
            path.unlink(missing_ok=True)

    def put_back(self, name: str) -> None:
        """Hand a job in again that was taken and is not measured after all."""
        for path in self._of("running", name):
            path.rename(self.folder / "jobs" / path.name)

    def result(self, name: str) -> Message:
        """The result of a job. Raises WireError where its file is damaged, or sealed with another secret."""
        return self._read(self.folder / "results" / f"{name}.result", "result", name)

    def forget(self, name: str) -> None:
        """Remove a result that has been fetched, or a job that nobody waits for any more."""
        for part in ("results", "jobs"):
            for path in self._of(part, name):
                path.unlink(missing_ok=True)

    def recover(self) -> None:
        """Take up again what an agent was measuring when it died; what it died of twice counts as failed."""
        for path in self._files("running"):
            name, *rest = path.name.removesuffix(".job").split(".")
            attempts = 1 + int(rest[0] if rest and rest[0].isdigit() else 0)
            if any(self._of("results", name)):
                path.unlink(missing_ok=True)
            elif attempts < ATTEMPTS:
                path.rename(self.folder / "jobs" / f"{name}.{attempts}.job")
            else:
                reason = f"the agent died {attempts} times while it measured this job; its runtime cannot stand a network of it"
                self.finish(name, {"state": "failed", "error": reason}, b"")

    def prune(self, seconds: float = KEEP_SECONDS) -> None:
        """Remove results that nobody has fetched for so long."""
        for path in self._files("results"):
            if time.time() - _age(path) > seconds:
                path.unlink(missing_ok=True)

    def _read(self, path: Path, kind: str, name: str) -> Message:
        try:
            with path.open("rb") as file:
                return unseal(self._secret, _kept_label(kind, name), file.read)
        except OSError as error:
            raise WireError(f"cannot read the {kind} {path}: {error.strerror or error}") from error
        except WireError as error:
            raise WireError(f"the {kind} {path.name} is damaged or sealed with another secret; give both sides one") from error

    def _files(self, part: str) -> list[Path]:
        return [path for path in (self.folder / part).iterdir() if not path.name.startswith(".")]

    def _of(self, part: str, name: str) -> Iterator[Path]:
        return (path for path in self._files(part) if path.name.split(".")[0] == name)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there. Raises FileError."""
    scratch = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise FileError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error


def _kept_label(kind: str, name: str) -> bytes:
    return f"{kind} {name}".encode()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
