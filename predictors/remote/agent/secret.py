"""The secret that an agent and its clients share."""

from __future__ import annotations

from pathlib import Path

from nas.errors import FileError, UsageError

MIN_SECRET = 16
MAKE_ONE = "make one by: python -c 'import secrets; print(secrets.token_hex(32))' > agent.secret"


def secret_of(text: bytes, source: str) -> bytes:
    """The secret without the white space around it. Raises UsageError where it is too short to be one."""
    found = text.strip()
    if len(found) < MIN_SECRET:
        raise UsageError(f"the secret of {source} has {len(found)} characters, fewer than {MIN_SECRET}; {MAKE_ONE}")
    return found


def read_secret_file(path: Path) -> bytes:
    """The secret in a file. Raises FileError where it cannot be read, UsageError where it is too short."""
    try:
        return secret_of(path.read_bytes(), str(path))
    except OSError as error:
        raise FileError(f"cannot read the secret file {path}: {error.strerror}; {MAKE_ONE}") from error
