"""The desk: answers the requests of clients that have shown the secret. Every request may be repeated without harm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from nas.errors import NasError, UsageError
from nas.predictors.remote.agent.about import who
from nas.predictors.remote.agent.channel import PROTOCOL
from nas.predictors.remote.agent.jobs import require_id
from nas.predictors.remote.agent.lease import Lease
from nas.predictors.remote.agent.registry import installed
from nas.predictors.remote.agent.spool import DONE, Spool
from nas.predictors.remote.agent.wire import Message

MAX_WAIT = 30.0
NO_LEASE = "lease"


def description() -> dict[str, Any]:
    """What a client is told about an agent before it hands in anything."""
    return {"agent": PROTOCOL, "name": who(), "runtimes": installed()}


class Desk:
    """Answers for one spool. `changed` is notified when a job is handed in or finished."""

    def __init__(self, spool: Spool, changed: threading.Condition, lease: Lease | None = None) -> None:
        self._spool, self._changed, self._lease = spool, changed, lease or Lease()
        self._handing_in = threading.Lock()
        self._requests: dict[str, Callable[[Mapping[str, Any], bytes], Message]] = {
            "describe": self._describe,
            "acquire": self._acquire,
            "release": self._release,
            "submit": self._submit,
            "wait": self._wait,
            "fetch": self._fetch,
            "forget": self._forget,
        }

    def answer(self, header: Mapping[str, Any], body: bytes) -> Message:
        """The answer to a request; what is wrong with it is in `error`, and `kind` is NO_LEASE where that is the reason."""
        try:
            request = self._requests.get(str(header.get("request")))
            if request is None:
                raise UsageError(f"the agent knows no request {header.get('request')!r}; write it anew by `nas agent --write`")
            return request(header, body)
        except NasError as error:
            return {"error": str(error), "kind": "request"}, b""
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"a request is damaged ({type(error).__name__}: {error})", "kind": "request"}, b""

    def _describe(self, header: Mapping[str, Any], body: bytes) -> Message:
        return description(), b""

    def _acquire(self, header: Mapping[str, Any], body: bytes) -> Message:
        granted, holder = self._lease.acquire(str(header["holder"]), str(header["name"])[:100])
        return {"granted": granted, "holder": holder}, b""

    def _release(self, header: Mapping[str, Any], body: bytes) -> Message:
        self._lease.release(str(header["holder"]))
        return {}, b""

    def _submit(self, header: Mapping[str, Any], body: bytes) -> Message:
        name = require_id(header["job"]["id"])
        with self._handing_in:
            if not self._lease.renew(str(header["holder"])):
                return {"error": "the lease has expired; acquire it again", "kind": NO_LEASE}, b""
            self._spool.put(name, header["job"], body)
        with self._changed:
            self._changed.notify_all()
        return {"state": self._spool.state(name)}, b""

    def _wait(self, header: Mapping[str, Any], body: bytes) -> Message:
        """The job's state as soon as it is finished, or after some seconds; waiting keeps the lease."""
        name, seconds = require_id(header["job"]), min(float(header["seconds"]), MAX_WAIT)
        self._lease.renew(str(header["holder"]))
        with self._changed:
            self._changed.wait_for(lambda: self._spool.state(name) == DONE, seconds)
        self._lease.renew(str(header["holder"]))
        return {"state": self._spool.state(name)}, b""

    def _fetch(self, header: Mapping[str, Any], body: bytes) -> Message:
        return self._spool.result(require_id(header["job"]))

    def _forget(self, header: Mapping[str, Any], body: bytes) -> Message:
        self._spool.forget(require_id(header["job"]))
        return {}, b""
