import contextlib
import logging
import socket
import threading
import time

import pytest

from nas.errors import MeasurementError, UsageError
from nas.predictors.remote import client as client_module
from nas.predictors.remote.agent import main, registry
from nas.predictors.remote.agent.about import about
from nas.predictors.remote.agent.address import is_loopback, parse_address
from nas.predictors.remote.agent.channel import Channel
from nas.predictors.remote.agent.jobs import Timed
from nas.predictors.remote.agent.server import Server
from nas.predictors.remote.agent.spool import DONE, UNKNOWN
from nas.predictors.remote.client import Client


def count_measured(agent):
    return sum("networks on" in line for line in agent.lines)


def test_a_job_comes_back_with_raw_samples_and_the_device_and_is_not_kept(agent, kit):
    job = kit.job(1, "sleep 0.001", "sleep 0.003")
    header, body = agent.client().run(job)
    timed = Timed.from_message(header, body)
    small, large = (sorted(value for visit in visits for value in visit.seconds) for visits in timed.visits)
    assert small[0] >= 0.001
    assert large[0] >= 0.003
    assert len(timed.anchor) >= 2
    assert header["environment"].keys() >= about("x").keys()
    assert header["environment"]["runtime"].startswith("toy on numpy")
    assert agent.spool.state(job.id) == UNKNOWN


def test_what_the_runtime_refuses_is_named_with_its_reason(agent, kit):
    header, _ = agent.client().run(kit.job(1, "sleep 0.001", "gelu"))
    assert header["error"] == "toy refuses it: operator 'gelu' is not known to this runtime"
    assert header["network"] == 1
    unknown = kit.job(2)
    object.__setattr__(unknown, "runtime", "toi")
    assert "Did you mean 'toy'?" in agent.client().run(unknown)[0]["error"]


def test_two_clients_are_measured_one_after_the_other_and_the_second_is_told_by_whom(agent, kit, caplog):
    caplog.set_level(logging.WARNING, logger="nas.remote")
    found = {}

    def ask(number):
        found[number] = agent.client().run(kit.job(number, "sleep 0.002", seconds=0.3))

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found[number][0]["state"] for number in (1, 2)] == ["done", "done"]
    order = ["done" in line for line in agent.lines if line.startswith("job")]
    assert order == [False, True, False, True]
    assert "is held by" in caplog.text


def test_the_lease_of_a_client_that_has_vanished_expires(tmp_path, kit):
    with kit.running(tmp_path / "spool", lease_seconds=0.3) as agent:
        vanished = agent.client()
        vanished._acquire()
        vanished.close()
        assert not agent.client()._ask({"request": "acquire", "holder": "me", "name": "me"})[0]["granted"]
        assert agent.client().run(kit.job(1, "sleep 0.001"))[0]["state"] == "done"


def test_nothing_is_taken_in_without_the_lease(agent, kit):
    header, body = kit.job(1, "sleep 0.001").to_message()
    answer, _ = agent.client()._ask({"request": "submit", "holder": "nobody", "job": header}, body)
    assert "lease has expired" in answer["error"]
    assert agent.spool.state(header["id"]) == UNKNOWN


class Proxy:
    """Passes bytes on, and cuts every connection when told so."""

    def __init__(self, port):
        self.port_behind, self.pairs, self.made = port, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port_behind))
                self.made += 1
                self.pairs += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for sock in pairs:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def test_a_client_that_loses_its_connection_finds_its_job_and_it_is_measured_once(agent, kit):
    proxy, found = Proxy(agent.port), []
    client = Client("127.0.0.1", proxy.port, kit.secret)
    thread = threading.Thread(target=lambda: found.append(client.run(kit.job(1, "sleep 0.002", seconds=1.0))))
    thread.start()
    while count_measured(agent) == 0:
        time.sleep(0.01)
    for _ in range(3):
        proxy.cut()
        time.sleep(0.1)
    thread.join(30)
    proxy.listener.close()
    assert found[0][0]["state"] == "done"
    assert proxy.made >= 2
    assert count_measured(agent) == 1


def test_a_result_waits_for_a_client_that_was_away_when_it_was_ready(tmp_path, kit):
    with kit.running(tmp_path / "spool", lease_seconds=0.2) as agent:
        job, client = kit.job(1, "sleep 0.001"), agent.client()
        client._hand_in(job)
        client.close()
        while agent.spool.state(job.id) != DONE:
            time.sleep(0.01)
        assert agent.client().run(job)[0]["state"] == "done"
        assert count_measured(agent) == 1


def test_an_agent_that_has_lost_a_job_is_given_it_again(agent, kit, monkeypatch):
    job, step, held, found = kit.job(1, "sleep 0.001"), agent.worker.step, threading.Event(), []
    monkeypatch.setattr(client_module, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(agent.worker, "step", lambda: held.is_set() and step())
    thread = threading.Thread(target=lambda: found.append(agent.client().run(job)), daemon=True)
    thread.start()
    while agent.spool.state(job.id) == UNKNOWN:
        time.sleep(0.01)
    time.sleep(0.2)
    agent.spool.forget(job.id)
    held.set()
    thread.join(10)
    assert found[0][0]["state"] == "done"


def test_a_job_that_nobody_waits_for_any_more_is_not_measured(agent, kit, monkeypatch):
    send = Channel.send

    def stop_in_the_middle(channel, header, body=b""):
        if header.get("request") == "wait":
            channel._sock.sendall(b"NASM")
            raise KeyboardInterrupt
        send(channel, header, body)

    monkeypatch.setattr(agent.worker, "step", lambda: False)
    monkeypatch.setattr(client_module.Channel, "send", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        agent.client().run(kit.job(1, "sleep 0.001"))
    assert agent.spool.state(kit.job(1).id) == UNKNOWN
    monkeypatch.undo()
    assert agent.client()._ask({"request": "acquire", "holder": "next", "name": "next"})[0]["granted"]


def test_a_wrong_secret_is_told_at_once_and_on_the_device_too(agent):
    client = Client("127.0.0.1", agent.port, b"quite another secret")
    with pytest.raises(MeasurementError, match=r"agent 127.0.0.1:\d+: the agent holds another secret"):
        client.describe()
    while not any("another secret was turned away" in line for line in agent.lines):
        time.sleep(0.01)


def test_an_agent_that_is_not_there_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(MeasurementError, match=r"does not answer \(Connection refused\); start `nas agent` there"):
        Client("127.0.0.1", port, b"").describe()


def test_an_agent_that_dies_for_good_is_told(agent, kit, monkeypatch):
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.3)
    proxy = Proxy(agent.port)
    client = Client("127.0.0.1", proxy.port, kit.secret)

    def die():
        while count_measured(agent) == 0:
            time.sleep(0.01)
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        proxy.cut()

    thread = threading.Thread(target=die)
    thread.start()
    with pytest.raises(MeasurementError, match="does not answer"):
        client.run(kit.job(1, "sleep 0.002", seconds=3.0))
    thread.join(10)
    agent.worker.stopping.set()


@pytest.mark.parametrize(
    "request_", [{}, {"request": "format"}, {"request": "fetch"}, {"request": "wait", "job": "../x"}, {"request": "acquire"}]
)
def test_a_request_that_is_none_is_refused_and_the_agent_goes_on(agent, request_):
    client = agent.client()
    with pytest.raises(MeasurementError, match="refuses: "):
        client._ask(request_)
    assert client.describe()["runtimes"]["toy"]


def test_a_damaged_job_fails_and_the_agent_goes_on(agent, kit):
    header, body = kit.job(1, "sleep 0.001").to_message()
    client = agent.client()
    client._acquire()
    client._ask({"request": "submit", "holder": client._key, "job": {"id": header["id"], "threads": 1}}, body)
    while agent.spool.state(header["id"]) != DONE:
        time.sleep(0.01)
    assert "a job is damaged" in client._ask({"request": "fetch", "job": header["id"]})[0]["error"]
    assert client.run(kit.job(2, "sleep 0.001"))[0]["state"] == "done"


def test_noise_on_the_port_leaves_the_agent_alone(agent, kit):
    for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b'{"nonce": "ab", "proof": "cd"}\n'):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", agent.port), timeout=2) as sock:
            sock.sendall(noise)
    assert agent.client().run(kit.job(1, "sleep 0.001"))[0]["state"] == "done"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_machines_are_not_let_in_without_a_secret(agent, host):
    with pytest.raises(UsageError, match="give the agent a secret"):
        Server(host, 0, b"", agent.desk, print)


def test_a_port_that_is_taken_is_told(agent):
    with pytest.raises(MeasurementError, match="choose another port"):
        Server("127.0.0.1", agent.port, b"", agent.desk, print)


def test_a_runtime_that_is_broken_is_told_and_the_others_go_on(tmp_path, capsys, kit):
    (tmp_path / "broken.py").write_text(
        "def version():\n    raise OSError('libdevice.so: cannot open')\n\n\nprepare = version\n"
    )
    with pytest.raises(UsageError, match="write HOST:PORT"):
        main.serve("nowhere", runtimes=[f"broken={tmp_path / 'broken.py'}"])
    assert "runtime broken cannot be used here: libdevice.so: cannot open" in capsys.readouterr().err
    assert "toy" in registry.installed()
    assert "broken" not in registry.installed()
    with pytest.raises(MeasurementError, match=r"'broken' cannot be used there: libdevice.so"):
        registry.agent_runtime("broken")


def test_addresses():
    assert parse_address("10.0.0.7:7070") == ("10.0.0.7", 7070)
    assert parse_address("[::1]:7070") == ("::1", 7070)
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("10.0.0.7")
    for text in ("", ":7070", "host", "host:", "host:x", "host:70707", "http://host:1", "host:-1"):
        with pytest.raises(UsageError, match="write HOST:PORT"):
            parse_address(text)
