"""Files that are either whole or not there: written beside their place, synced, then renamed over it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor

ABANDONED = 600.0
"""Seconds after which nobody is writing a temporary file any more."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on success it is synced and renamed to `path`, on failure removed.

    Raises FileError where the disk is full or the folder cannot be written.
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        yield scratch
        scratch.chmod(0o666 & ~_umask())
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Be the only process that writes a file, by a locked file beside it, which goes when this ends or the process dies.

    Raises FileError where another process holds it, or the folder cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    with file:
        held = False
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Where its last holder has removed it meanwhile, another process may hold one of the same name.
            held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            held = True  # a file system without locks
        if not held:
            raise FileError(f"another process is writing {path}; wait for it, or write to another place")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises FileError."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically; as in `to_json`. Raises FileError."""
    write_text(path, to_json(data, sort_keys=True) + "\n")


def to_json(data: Any, **options: Any) -> str:
    """Indented JSON, with null for numbers that are not finite: the format has none of these."""
    try:
        return json.dumps(data, indent=1, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(data), indent=1, allow_nan=False, **options)


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file with notes `about` it atomically. Raises FileError.

    What writers of it left behind that were killed is removed: of a checkpoint these are large.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    _remove_abandoned(path)
    with replacing(path) as scratch:
        try:
            save_file(dict(tensors), str(scratch), metadata=dict(about))
        except SafetensorError as error:
            raise OSError(str(error)) from error  # a full disk, told as every other writer tells it


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of `replacing` beside a path that nobody has written to for ABANDONED seconds."""
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            ours = found.name.startswith(f".{path.stem}-") and found.suffix == path.suffix
            if ours and time.time() - found.stat().st_mtime > ABANDONED:
                found.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file atomically. Raises FileError where either cannot be read or written."""
    if not source.is_file():
        raise FileError(f"cannot copy {source}: there is no such file")
    with replacing(path) as scratch:
        shutil.copyfile(source, scratch)


def read_text(path: Path, what: str) -> str:
    """The text of a file. Raises FileError naming `what` it should have been."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise FileError(f"cannot read {what} {path}: {reason}") from error


def read_json(path: Path, what: str) -> Any:
    """The decoded JSON of a file. Raises FileError where it is missing, truncated or no JSON."""
    try:
        return json.loads(read_text(path, what))
    except ValueError as error:
        raise FileError(f"{what} {path} is damaged or not JSON ({error}); delete it to start afresh") from error
