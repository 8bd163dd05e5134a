"""The agent as the one file that is copied to a device: in processes where PyTorch and this package cannot be imported."""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from nas.predictors.remote import single_file
from nas.predictors.remote.agent.spool import RUNNING, Spool
from nas.predictors.remote.client import Client
from nas.predictors.remote.single_file import agent_source


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder with `agent.py` and, to be put before everything else on the path, packages that cannot be imported."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "agent.py").write_text(agent_source())
    for name in ("torch", "nas", "typer"):
        (folder / "barred" / name).mkdir(parents=True)
        (folder / "barred" / name / "__init__.py").write_text(f"raise ImportError('{name} is not on this device')")
    return folder


@pytest.fixture
def start(bare, kit, tmp_path):
    """Starts `python agent.py` on a free port and returns the process and the port."""
    (tmp_path / "secret").write_bytes(kit.secret + b"\n")
    started = []

    def run(*arguments, port=0):
        places = ("--listen", f"127.0.0.1:{port}", "--secret-file", tmp_path / "secret", "--spool", tmp_path / "spool")
        command = [sys.executable, bare / "agent.py", *(places + arguments), "--runtime", f"toy={kit.toy}"]
        environment = {**os.environ, "PYTHONPATH": str(bare / "barred")}
        process = subprocess.Popen([*map(str, command)], env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        lines = iter(process.stderr.readline, "")
        told = next(line for line in lines if "nas agent on" in line or "error" in line)
        return process, int(re.search(r"127.0.0.1:(\d+)", told).group(1))

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_file_is_for_python_3_10_and_imports_the_standard_library_and_numpy_alone():
    tree = ast.parse(agent_source(), feature_version=(3, 10))
    top = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.split(".")[0] for node in top if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names) | {"numpy"}
    everywhere = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {name for name in everywhere if name.split(".")[0] in ("torch", "nas", "pickle", "marshal")}
    assert "Self" not in {alias.name for node in top for alias in node.names}


def test_names_that_clash_are_refused(monkeypatch, tmp_path):
    for name, text in (("one", "def f(): ...\n"), ("two", "from nas.one import f\ndef f(): ...\n")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(single_file, "_path", lambda module: tmp_path / f"{module.removeprefix('nas.')}.py")
    with pytest.raises(single_file.FileError, match=r"f is defined by nas.one and by nas.two"):
        agent_source("nas.two")


def test_it_measures_without_torch_and_a_signal_ends_it(start, kit):
    process, port = start()
    client = Client("127.0.0.1", port, kit.secret)
    assert client.describe()["runtimes"].keys() >= {"onnxruntime", "toy"}
    assert client.run(kit.job(1, "sleep 0.001"))[0]["state"] == "done"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert "jobs and results are kept" in process.stderr.read()


@pytest.mark.slow
def test_an_agent_killed_in_the_middle_of_a_job_measures_it_when_it_is_back(start, kit, tmp_path):
    process, port = start()
    found, job = [], kit.job(1, "sleep 0.002", seconds=1.5)
    client = Client("127.0.0.1", port, kit.secret)
    thread = threading.Thread(target=lambda: found.append(client.run(job)))
    thread.start()
    spool = Spool(tmp_path / "spool", kit.secret)
    while spool.state(job.id) != RUNNING:
        time.sleep(0.01)
    process.kill()
    process.wait()
    start(port=port)
    thread.join(30)
    assert found[0][0]["state"] == "done"


@pytest.mark.slow
@pytest.mark.thorough
def test_a_network_that_kills_the_runtime_is_given_up_when_the_agent_is_started_again(start, kit):
    process, port = start()
    client, found = Client("127.0.0.1", port, kit.secret), []
    thread = threading.Thread(target=lambda: found.append(client.run(kit.job(1, "die"))))
    thread.start()
    for _ in range(2):
        assert process.wait(30) == 9
        process, _ = start(port=port)
    thread.join(30)
    assert "the agent died 2 times" in found[0][0]["error"]
    assert client.run(kit.job(2, "sleep 0.001"))[0]["state"] == "done"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--listen", "0.0.0.0:7070"], 2, "give the agent a secret"),
        ([], 2, "needs either --listen HOST:PORT or --folder PATH"),
        (["--listen", "127.0.0.1:0", "--folder", "x"], 2, "needs either"),
        (["--listen", "127.0.0.1"], 2, "write HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--secret-file", "missing"], 1, "cannot read the secret file"),
        (["--listen", "127.0.0.1:0", "--runtime", "mine"], 2, "write NAME=FILE.py"),
    ],
)
def test_bad_usage_is_one_line(bare, tmp_path, arguments, code, told):
    environment = {**os.environ, "PYTHONPATH": str(bare / "barred"), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, bare / "agent.py", *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
