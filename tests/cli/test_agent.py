"""`nas agent`, and `nas profile` through it."""

import itertools
import json
import re
import subprocess

import onnx
import pytest
from onnx import TensorProto, helper

from nas.predictors.latency_table import LatencyTable
from nas.predictors.samples import read_samples, samples_path


@pytest.fixture
def agent(start, tmp_path):
    """Starts `nas agent` in a process of its own, and returns it and what a target names behind its `@`."""
    started = []

    def run(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        process = start("agent", *arguments)
        started.append(process)
        line = next(line for line in iter(process.stderr.readline, "") if "nas agent on" in line)
        return process, re.search(r"nas agent on (?:folder )?([^,]+),", line).group(1)

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def no_secret(monkeypatch):
    """Neither from outside nor from a test before: --agent-secret-file lasts as long as the process."""
    for name in ("NAS_AGENT_SECRET", "NAS_AGENT_SECRET_FILE"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "agent.secret"
    path.write_text("a secret of some length\n")
    return path


@pytest.fixture
def quick_export(monkeypatch):
    """ONNX files of sines, more of them for more parameters: exporting a dozen real networks takes half a minute."""

    def write(model, example, target, folder):
        number = 1 + sum(parameter.numel() for parameter in model.parameters()) // 100
        names = ["image", *(f"x{index}" for index in range(number))]
        chain = [helper.make_node("Sin", [one], [other]) for one, other in itertools.pairwise(names)]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(example.shape)) for name in (names[0], names[-1])]
        graph = helper.make_graph(chain, "sines", ends[:1], ends[1:])
        onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), folder / "model.onnx")
        return folder / "model.onnx"

    monkeypatch.setattr("nas.predictors.remote.job.onnx_file", write)
    monkeypatch.setattr("nas.predictors.export_pool.usual_workers", lambda: 1)


@pytest.mark.slow
def test_a_space_is_profiled_on_an_agent_over_the_network(nas, agent, secret, mini, tmp_path, fails, quick_export):
    _, where = agent("--listen", "127.0.0.1:0", "--secret-file", secret, "--spool", tmp_path / "spool")
    question = ("profile", "--space", mini, "--target", f"cpu:onnxruntime@{where}", "--networks", 8, "--held-out", 2)
    assert "asks for a secret" in fails(nas(*question, "--seconds", 2), 1)
    other = tmp_path / "other.secret"
    other.write_text("another secret of some length")
    assert "holds another secret" in fails(nas(*question, "--seconds", 2, "--agent-secret-file", other), 1)
    done = nas(*question, "--seconds", 2, "--agent-secret-file", secret, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    table = LatencyTable.load(tmp_path / told["table"])
    assert len(table.networks) == 10
    assert table.nodes
    assert table.target.place == where
    assert table.environment["runtime"].startswith("onnxruntime")
    samples = list(read_samples(samples_path(tmp_path / told["table"])))
    measured = [line for line in samples if line["what"] == "network"]
    assert {line["id"] for line in measured} == table.networks.keys()
    assert {line["version"] for line in measured} == {table.environment["runtime"]}
    assert not any((tmp_path / "spool" / "results").iterdir())


def test_a_missing_agent_is_one_line(nas, fails, monkeypatch):
    monkeypatch.setattr("nas.predictors.remote.client.FIRST_SECONDS", 0.1)
    assert "does not answer" in fails(nas("profile", "--target", "cpu:onnxruntime@127.0.0.1:9"), 1)
    assert "needs PyTorch" in fails(nas("profile", "--target", "cpu:eager@127.0.0.1:9"), 2)
    assert "no folder" in fails(nas("search", "--budget-latency", "5ms", "--target", "cpu@folder:nowhere"), 1)


def test_an_agent_on_a_folder_answers_there_and_a_second_one_is_refused(nas, agent, fails, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.predictors.remote.agent.main.LEASE_SECONDS", 0.1)
    agent("--folder", tmp_path / "shared")
    assert "is served by another agent" in nas("agent", "--folder", tmp_path / "shared").stderr
    refused = nas("profile", "--target", f"cpu:litert@folder:{tmp_path / 'shared'}")
    assert "no runtime 'litert'" in fails(refused, 1)


def test_the_agent_is_written_as_one_file(nas, tmp_path, fails):
    assert nas("agent", "--write", "copy.py").returncode == 0
    assert "def main(" in (tmp_path / "copy.py").read_text()
    assert "--write only writes" in fails(nas("agent", "--write", "copy.py", "--listen", "127.0.0.1:0"), 2)
    assert "needs either" in fails(nas("agent"), 2)
    assert "give the agent a secret" in fails(nas("agent", "--listen", "0.0.0.0:0", "--spool", "spool"), 2)
