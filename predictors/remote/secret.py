"""The client's side of the secret: from the environment, where `--agent-secret-file` puts it too."""

from __future__ import annotations

import os
from pathlib import Path

from nas.predictors.remote.agent.secret import read_secret_file, secret_of

SECRET, SECRET_FILE = "NAS_AGENT_SECRET", "NAS_AGENT_SECRET_FILE"


def use_secret_file(path: Path) -> None:
    """Take the secret from this file in this process and in those it starts. Raises FileError or UsageError."""
    read_secret_file(path)
    os.environ.pop(SECRET, None)
    os.environ[SECRET_FILE] = str(path.resolve())


def agent_secret() -> bytes:
    """The secret for agents; empty where none is given. Raises FileError or UsageError."""
    if os.environ.get(SECRET):
        return secret_of(os.environb[SECRET.encode()], SECRET)
    if os.environ.get(SECRET_FILE):
        return read_secret_file(Path(os.environ[SECRET_FILE]))
    return b""
