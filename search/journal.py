"""Opening an Optuna journal file so that neither a torn last line nor a lock left by a killed process gets in the way.

Optuna skips a last line without its end, but appends behind it and then cannot read the file at all; and the lock file of
a process that was killed holds up the next one for half a minute. Both are put right by the one process that writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from nas.errors import FileError

GRACE = 5
PATIENCE = 3.0
PAUSE = 0.02
START = b'{"op_code":'


def open_storage(path: Path) -> JournalStorage:
    """The storage of a journal file that exists. Raises FileError for a foreign or damaged file."""
    try:
        # The symbolic link that is Optuna's default lock spins without end once the folder has been moved.
        backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path), grace_period=GRACE))
        return JournalStorage(backend)
    except OSError as error:
        raise FileError(f"cannot open the archive {path}: {error.strerror or error}; choose another folder") from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise FileError(f"{path} is damaged or no archive of a search; move it away or choose another folder") from error


def check(path: Path) -> int:
    """How many whole records a journal holds: 0 where the file is missing, empty, or broken off in its first line.

    Raises FileError where anything but the end of the last line is no record of an Optuna journal.
    """
    try:
        return _whole(path)[0]
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise FileError(f"cannot read the archive {path}: {error.strerror or error}") from error


def mend(path: Path) -> None:
    """Cut off what follows the last whole record: half a line of a process that was killed while it wrote."""
    _, length = _whole(path)
    if length < path.stat().st_size:
        with path.open("rb+") as file:
            file.truncate(length)
            os.fsync(file.fileno())


def _whole(path: Path) -> tuple[int, int]:
    """The number and the bytes of the whole records. Only the last line is decoded: Optuna will decode the others."""
    records, length, last = 0, 0, b""
    with path.open("rb") as file:
        for line in file:
            if not (line.startswith(START) and line.endswith(b"}\n")):
                broken_off = START.startswith(line[: len(START)]) or not line.strip(b"\0")
                if file.read(1) or not broken_off:
                    what = f"is damaged in line {records + 1}" if records else "is no archive of a search"
                    raise FileError(f"{path} {what}; move it away or choose another folder")
                return records, length
            records, length, last = records + 1, length + len(line), line
    return (records, length) if not last or _is_record(last) else (records - 1, length - len(last))


def claim(path: Path) -> IO[bytes]:
    """Become the only writer of a journal until the returned file is closed or the process ends, however it ends.

    Creates the journal where it is missing, mends it, and removes a lock that nobody holds. Raises FileError where another
    process is writing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise FileError(f"cannot write the archive {path}: {error.strerror or error}; choose another folder") from error
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                raise FileError(f"another search is writing to {path}; wait for it or choose another folder") from None
            time.sleep(PAUSE)
        except OSError:
            break  # a file system without locks: one driver writes, by the rule of the run folder
    _drop_stale_lock(Path(f"{path}.lock"))
    mend(path)
    return file


def _drop_stale_lock(lock: Path) -> None:
    """Optuna's lock is held for one append, so one that does not go away within a second belongs to the dead."""
    end = time.monotonic() + 1.0
    while os.path.lexists(lock):
        if time.monotonic() > end:
            with contextlib.suppress(FileNotFoundError):
                lock.unlink()
        time.sleep(PAUSE)


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int) and "worker_id" in record
