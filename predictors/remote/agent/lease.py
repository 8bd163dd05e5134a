"""Leases: who may hand in work now. One in the memory of an agent, one as a file in a shared folder; both expire.

A holder says again and again that it is there; one that has been silent for `seconds` has lost the lease.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.errors import FileError, MeasurementError
from nas.predictors.remote.agent.spool import write_whole

LEASE_SECONDS = 10.0
BEATS = 5

Clock = Callable[[], float]


@dataclass(slots=True)
class _Holder:
    key: str
    name: str
    since: float
    heard: float


class Lease:
    """The lease of an agent's clients, for the threads that serve them."""

    def __init__(self, seconds: float = LEASE_SECONDS, clock: Clock = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._holder: _Holder | None = None
        self._lock = threading.Lock()

    def acquire(self, key: str, name: str) -> tuple[bool, str]:
        """Whether the client with this key holds the lease now, and in words who does."""
        with self._lock:
            now, holder = self._clock(), self._living()
            if holder is None:
                self._holder = holder = _Holder(key, name, now, now)
            elif holder.key == key:
                holder.heard = now
            return holder.key == key, f"{holder.name} since {now - holder.since:.0f} s"

    def renew(self, key: str) -> bool:
        """Whether this client holds the lease; if so it has been heard."""
        with self._lock:
            holder = self._living()
            if holder is None or holder.key != key:
                return False
            holder.heard = self._clock()
            return True

    def release(self, key: str) -> None:
        """Give the lease back, if this client holds it."""
        with self._lock:
            if self._holder is not None and self._holder.key == key:
                self._holder = None

    def _living(self) -> _Holder | None:
        if self._holder is not None and self._clock() - self._holder.heard > self.seconds:
            self._holder = None
        return self._holder


class FileLease:
    """A lease as a file, whose holder counts in it. It expires when the number stands still, whatever the clocks of the
    machines say: each compares only with its own."""

    def __init__(self, path: Path, name: str, seconds: float = LEASE_SECONDS, clock: Clock = time.monotonic) -> None:
        self.path, self.name, self.seconds, self._clock = path, name, seconds, clock
        self._key, self._beats = secrets.token_hex(8), 0
        self._seen: bytes | None = None
        self._since = clock()
        self._lost: MeasurementError | None = None

    def try_acquire(self) -> str | None:
        """None where the lease is ours now, else who holds it. Raises FileError where the folder cannot be written."""
        found = self.read()
        if found is None:
            return self._create()
        if self._owner(found) == self._key:
            return None
        if found != self._seen:
            self._seen, self._since = found, self._clock()
        if self._clock() - self._since <= self.seconds:
            return holder_of(found)
        aside = self.path.with_name(f".{self.path.name}-{self._key}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return holder_of(found)
        if aside.read_bytes() != found:
            # Its holder came back, or another one took it over, between our look and our rename.
            aside.rename(self.path)
            return holder_of(found)
        aside.unlink()
        return self._create()

    def beat(self) -> None:
        """Show that the holder is there. Raises MeasurementError where somebody else has taken the lease meanwhile."""
        found = self.read()
        if found is not None and self._owner(found) != self._key:
            raise MeasurementError(f"the lease {self.path} was taken over by {holder_of(found)} while this machine was silent")
        self._beats += 1
        write_whole(self.path, self._content())

    def release(self) -> None:
        """Give the lease back, if it is ours."""
        found = self.read()
        if found is not None and self._owner(found) == self._key:
            self.path.unlink(missing_ok=True)

    def require(self) -> None:
        """Raise MeasurementError where the lease was lost while it was kept."""
        if self._lost is not None:
            raise self._lost

    @contextlib.contextmanager
    def kept(self, lost: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold the lease, which has been acquired, with a heartbeat in a thread, and give it back at the end.

        Where somebody else takes it over `lost` is called, in that thread, and MeasurementError raised here at the end, or by
        `require` before.
        """
        ended = threading.Event()
        self._lost = None

        def beat() -> None:
            while not ended.wait(self.seconds / BEATS):
                try:
                    self.beat()
                except FileError:
                    continue  # a folder that is away for a moment; the lease may outlast it
                except MeasurementError as error:
                    self._lost = error
                    lost()
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()
        self.require()

    def read(self) -> bytes | None:
        """The file's content, None where there is none."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"cannot read the lease {self.path}: {error.strerror or error}") from error

    def _create(self) -> str | None:
        try:
            with self.path.open("xb") as file:
                file.write(self._content())
        except FileExistsError:
            return holder_of(self.read() or b"")
        except OSError as error:
            raise FileError(f"cannot write the lease {self.path}: {error.strerror or error}") from error
        return None

    def _content(self) -> bytes:
        return json.dumps({"key": self._key, "name": self.name, "beat": self._beats}).encode()

    def _owner(self, content: bytes) -> str:
        return _field(content, "key")


def holder_of(content: bytes) -> str:
    """The name in a lease file."""
    return _field(content, "name") or "somebody"


def _field(content: bytes, name: str) -> str:
    try:
        return str(json.loads(content)[name])
    except (ValueError, KeyError, TypeError):
        return ""
