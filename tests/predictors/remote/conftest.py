"""Agents for tests: one in threads of this process, with a runtime that sleeps."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.predictors.remote.agent import main, registry
from nas.predictors.remote.agent.desk import Desk
from nas.predictors.remote.agent.jobs import Job, Network
from nas.predictors.remote.agent.lease import Lease
from nas.predictors.remote.agent.server import Server, serving
from nas.predictors.remote.agent.spool import Spool
from nas.predictors.remote.agent.worker import Worker
from nas.predictors.remote.client import Client

TOY = Path(__file__).resolve().parents[2] / "support" / "toy_runtime.py"
SECRET = b"sixteen characters and more"


def toy_job(number: int, *words: str, seconds: float = 0.05) -> Job:
    networks = tuple(Network(word.encode(), (1, 3, 4, 4)) for word in words)
    return Job(f"{number:032x}", "cpu", "toy", "fp32", 1, networks, None, seconds, 2)


@contextlib.contextmanager
def working(worker):
    thread = threading.Thread(target=worker.run, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stopping.set()
        thread.join(10)


@contextlib.contextmanager
def running(folder, secret=SECRET, lease_seconds=5.0):
    lines: list[str] = []
    worker = Worker(Spool(folder, secret), lines.append)
    desk = Desk(worker.spool, worker.changed, Lease(lease_seconds))
    server = Server("127.0.0.1", 0, secret, desk, lines.append)
    client = lambda: Client("127.0.0.1", server.port, secret)  # noqa: E731
    with serving(server), working(worker):
        yield SimpleNamespace(port=server.port, spool=worker.spool, worker=worker, lines=lines, client=client, desk=desk)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The runtime `toy` in this process, and no secret from outside."""
    assert len(registry.RUNTIMES) == len(main.BUILT_IN)
    monkeypatch.setattr(registry, "RUNTIMES", dict(registry.RUNTIMES))
    registry.add_plugin(f"toy={TOY}")
    for name in ("NAS_AGENT_SECRET", "NAS_AGENT_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def agent(tmp_path):
    with running(tmp_path / "spool") as found:
        yield found


@pytest.fixture
def kit():
    """Builds jobs, and starts agents and workers."""
    return SimpleNamespace(job=toy_job, running=running, working=working, secret=SECRET, toy=TOY)
