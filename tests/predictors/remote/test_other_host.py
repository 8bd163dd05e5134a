"""The agent on another host, a network namespace with a link of its own, which goes away in the middle of a job.

Needs root and iproute2 (Linux); elsewhere these tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from nas.errors import MeasurementError
from nas.predictors.remote.agent.spool import DONE, RUNNING, Spool
from nas.predictors.remote.client import Client
from nas.predictors.remote.single_file import agent_source

SPACE, HERE, THERE, PORT = f"nas-{os.getpid()}", "10.231.77.1", "10.231.77.2", 7070
LINK = f"nas{os.getpid() % 100000}"


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def host():
    """A second host at THERE; what is given runs a command on it."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("needs root and iproute2")
    try:
        ip("netns", "add", SPACE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "device0", "netns", SPACE)
        ip("addr", "add", f"{HERE}/24", "dev", LINK)
        ip("link", "set", LINK, "up")
        for words in (("addr", "add", f"{THERE}/24", "dev", "device0"), ("link", "set", "device0", "up")):
            ip("-n", SPACE, *words)
        yield ["ip", "netns", "exec", SPACE]
    finally:
        ip("netns", "del", SPACE)


@pytest.fixture
def agent(host, kit, tmp_path):
    """An agent that listens there; what is given is where it keeps its jobs."""
    (tmp_path / "agent.py").write_text(agent_source())
    (tmp_path / "secret").write_bytes(kit.secret + b"\n")
    command = [*host, sys.executable, tmp_path / "agent.py", "--listen", f"{THERE}:{PORT}", "--runtime", f"toy={kit.toy}"]
    command += ["--secret-file", tmp_path / "secret", "--spool", tmp_path / "spool"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    assert any("nas agent on" in line for line in process.stderr)
    yield tmp_path / "spool"
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_job_is_finished_although_the_link_is_down_for_a_while(agent, kit):
    client, found, job = Client(THERE, PORT, kit.secret), [], kit.job(1, "sleep 0.002", seconds=1.0)
    thread = threading.Thread(target=lambda: found.append(client.run(job)))
    thread.start()
    spool = Spool(agent, kit.secret)
    while spool.state(job.id) != RUNNING:
        time.sleep(0.01)
    ip("link", "set", LINK, "down")
    while spool.state(job.id) != DONE:
        time.sleep(0.01)
    assert not found, "nothing comes through a link that is down"
    ip("link", "set", LINK, "up")
    thread.join()
    assert found[0][0]["state"] == "done"


def test_a_client_with_another_secret_is_turned_away(agent):
    with pytest.raises(MeasurementError, match="another secret"):
        Client(THERE, PORT, b"0" * 32).describe()
