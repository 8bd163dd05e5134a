"""The client of an agent on the network: hands in a job, survives disconnections, and fetches the result once."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from nas.errors import MeasurementError
from nas.predictors.remote.agent.about import who
from nas.predictors.remote.agent.channel import Channel, greet_as_client
from nas.predictors.remote.agent.desk import NO_LEASE
from nas.predictors.remote.agent.jobs import Job
from nas.predictors.remote.agent.spool import DONE, UNKNOWN
from nas.predictors.remote.agent.wire import LostError, Message, WireError

FIRST_SECONDS = 5.0
PATIENCE_SECONDS = 180.0
LEASE_PATIENCE_SECONDS = 1800.0
ANSWER_SECONDS = 60.0
WAIT_SECONDS = 5.0
SLOWEST_RETRY = 5.0

_log = logging.getLogger("nas.remote")


class Client:
    """Requests to one agent. Every request may be repeated, so each goes on after a lost connection."""

    def __init__(self, host: str, port: int, secret: bytes) -> None:
        self._address, self._secret = (host, port), secret
        self._key = uuid.uuid4().hex
        self._channel: Channel | None = None
        self._sock: socket.socket | None = None

    def __str__(self) -> str:
        return f"agent {self._address[0]}:{self._address[1]}"

    def describe(self) -> dict[str, Any]:
        """What the agent says about itself. Raises MeasurementError where it does not answer or the secret is wrong."""
        try:
            return self._ask({"request": "describe"}, patience=FIRST_SECONDS)[0]
        finally:
            self.close()

    def run(self, job: Job) -> Message:
        """The result of a job. Raises MeasurementError where the agent is gone for long, or held by another for very long."""
        finished = False
        try:
            self._hand_in(job)
            while self._state(job) != DONE:
                pass
            found = self._ask({"request": "fetch", "job": job.id})
            finished = True
            return found
        finally:
            # What was fetched is not kept, and what nobody waits for any more is not measured.
            if not finished:
                self.close()  # it may have been left in the middle of a message
            with contextlib.suppress(MeasurementError):
                self._ask({"request": "forget", "job": job.id}, patience=0.0)
                self._ask({"request": "release", "holder": self._key}, patience=0.0)
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._sock is not None:
            self._sock.close()
        self._sock = self._channel = None

    def _hand_in(self, job: Job) -> None:
        """Hand the job in, with the lease; an agent that knows it already says so and measures nothing twice."""
        header, body = job.to_message()
        while True:
            self._acquire()
            answer, _ = self._ask({"request": "submit", "holder": self._key, "job": header}, body)
            if answer.get("kind") != NO_LEASE:
                return

    def _acquire(self) -> None:
        def ask() -> str | None:
            answer, _ = self._ask({"request": "acquire", "holder": self._key, "name": who()})
            return None if answer["granted"] else str(answer["holder"])

        wait_for_lease(ask, str(self))

    def _state(self, job: Job) -> str:
        """The job's state after some waiting. An agent that has lost its memory is given the job again."""
        wait = {"request": "wait", "job": job.id, "holder": self._key, "seconds": WAIT_SECONDS}
        state = str(self._ask(wait)[0]["state"])
        if state == UNKNOWN:
            self._hand_in(job)
        return state

    def _ask(self, header: Mapping[str, Any], body: bytes = b"", patience: float | None = None) -> Message:
        """The answer to a request. Raises MeasurementError where the agent refuses it, or is away for too long."""
        seconds = PATIENCE_SECONDS if patience is None else patience
        found, content = retrying(lambda: self._once(header, body), seconds, str(self), self.close)
        if found.get("error") and found.get("kind") not in (None, NO_LEASE):
            raise MeasurementError(f"{self} refuses: {found['error']}")
        return found, content

    def _once(self, header: Mapping[str, Any], body: bytes) -> Message:
        channel = self._channel or self._connect()
        channel.send(dict(header), body)
        return channel.receive()

    def _connect(self) -> Channel:
        self._sock = socket.create_connection(self._address, timeout=FIRST_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._channel = greet_as_client(self._sock, self._secret)
        except LostError:
            raise
        except WireError as error:
            self.close()
            raise MeasurementError(f"{self}: {error}") from error
        self._sock.settimeout(ANSWER_SECONDS)
        return self._channel


def retrying(ask: Callable[[], Message], patience: float, name: str, close: Callable[[], None]) -> Message:
    """The answer, asked for again with growing pauses while the connection is lost, for `patience` seconds at most."""
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            return ask()
        except (LostError, OSError) as error:
            close()
            if time.monotonic() - began >= patience:
                reason = getattr(error, "strerror", None) or error
                raise MeasurementError(
                    f"{name} does not answer ({reason}); start `nas agent` there and run this again"
                ) from error
        except WireError as error:
            close()
            raise MeasurementError(f"{name}: {error}") from error
        time.sleep(pause)
        pause = min(2 * pause, SLOWEST_RETRY)


def wait_for_lease(ask: Callable[[], str | None], name: str) -> None:
    """Ask until the answer is None, telling once who holds the lease. Raises MeasurementError after half an hour."""
    began, told = time.monotonic(), False
    while (holder := ask()) is not None:
        if time.monotonic() - began > LEASE_PATIENCE_SECONDS:
            raise MeasurementError(f"{name} is held by {holder}; ask them to stop, or try again later")
        if not told:
            _log.warning("%s is held by %s; waiting", name, holder)
            told = True
        time.sleep(0.3)
