"""`@folder:PATH`: an agent that watches a folder which both machines see."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any, ClassVar

from nas.errors import FileError, MeasurementError, UsageError
from nas.predictors.remote.agent.about import who
from nas.predictors.remote.agent.jobs import Job
from nas.predictors.remote.agent.lease import FileLease
from nas.predictors.remote.agent.main import ABOUT, AGENT_LEASE, CLIENT_LEASE
from nas.predictors.remote.agent.spool import DONE, UNKNOWN, Spool
from nas.predictors.remote.agent.wire import Message, WireError, unseal
from nas.predictors.remote.agent_place import AgentPlace, Link
from nas.predictors.remote.client import PATIENCE_SECONDS, wait_for_lease
from nas.predictors.remote.place import register_place
from nas.predictors.remote.secret import agent_secret

FIRST_LOOK, SLOWEST_LOOK = 0.05, 1.0


class FolderClient:
    """Hands jobs in as files and waits for theirs; one client at a time, by a lease with a heartbeat."""

    def __init__(self, folder: Path, secret: bytes) -> None:
        self._folder, self._secret = folder, secret

    def describe(self) -> dict[str, Any]:
        """What the agent has written about itself. Raises MeasurementError where none has, or it has another secret."""
        path = self._folder / ABOUT
        try:
            return unseal(self._secret, b"about", io.BytesIO(path.read_bytes()).read)[0]
        except OSError as error:
            raise MeasurementError(
                f"no agent has been started on {self._folder} ({error.strerror}); run `nas agent --folder PATH` on the device"
            ) from error
        except WireError as error:
            raise MeasurementError(
                f"the agent on {self._folder} holds another secret, or none; give both the same by --agent-secret-file"
            ) from error

    def run(self, job: Job) -> Message:
        """The result of a job. Raises MeasurementError where the agent is silent for long."""
        spool, lease = Spool(self._folder, self._secret), FileLease(self._folder / CLIENT_LEASE, f"{who()} {os.getpid()}")
        wait_for_lease(lease.try_acquire, f"folder {self._folder}")
        with lease.kept():
            try:
                return self._wait(spool, job, lease)
            finally:
                spool.forget(job.id)

    def _wait(self, spool: Spool, job: Job, lease: FileLease) -> Message:
        """The result, once it is there; the agent's lease shows meanwhile that it lives, and `lease` must be ours still."""
        agent = FileLease(self._folder / AGENT_LEASE, "")
        seen, since, pause = None, time.monotonic(), FIRST_LOOK
        while (state := spool.state(job.id)) != DONE:
            lease.require()
            if state == UNKNOWN:
                spool.put(job.id, *job.to_message())
            beat = agent.read()
            if beat is not None and beat != seen:
                seen, since = beat, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                raise MeasurementError(
                    f"the agent on {self._folder} has been silent for {PATIENCE_SECONDS:.0f} s; start it and run this again"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, SLOWEST_LOOK)
        return spool.result(job.id)


@register_place
class Folder(AgentPlace):
    """A shared folder: a network drive, or one that is synchronised."""

    name: ClassVar[str] = "folder"

    def __init__(self, where: str) -> None:
        if not where:
            raise UsageError("a place 'folder:' needs a path behind it, e.g. cpu:onnxruntime@folder:/mnt/share")
        self._folder = Path(where)

    def link(self) -> Link:
        """A client with the secret of the environment. Raises FileError where there is no such folder."""
        if not self._folder.is_dir():
            raise FileError(f"there is no folder {self._folder} to reach an agent by; mount it, or choose another place")
        return FolderClient(self._folder, agent_secret())
