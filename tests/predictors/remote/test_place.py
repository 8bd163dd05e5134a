"""Targets at other places: how they are written, and measuring through them as through targets of this machine."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nas
from nas.errors import MeasurementError, UsageError
from nas.predictors.in_place_timing import time_in_place
from nas.predictors.interleaving import Effort
from nas.predictors.latency_table import LatencyTable
from nas.predictors.measure import anchor_seconds, measure_many
from nas.predictors.node_timing import in_place
from nas.predictors.remote.agent.registry import RUNTIMES, Wanted
from nas.predictors.remote.job import shipped
from nas.predictors.remote.place import place
from nas.predictors.runtimes.onnxruntime import onnx_file
from nas.predictors.target import Target
from nas.results.verification import delivered, measure_network

PLACES = st.one_of(
    st.tuples(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.integers(0, 65535)).map(
        lambda p: f"tcp:{p[0]}:{p[1]}"
    ),
    st.integers(0, 65535).map(lambda port: f"[::1]:{port}"),
    st.text("ab,@:/. é", min_size=1, max_size=20).map(lambda path: f"folder:/{path}."),
)
WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)


@given(WORDS, WORDS.filter(lambda name: name not in ("eager", "compile")), st.integers(1, 64), st.integers(1, 8), WORDS, PLACES)
def test_a_target_elsewhere_is_read_back_as_it_was_written(device, runtime, threads, batch, precision, where):
    target = Target(device, runtime, threads, batch, precision, where)
    assert Target.parse(str(target)) == target
    assert target.dtype == torch.float32


def test_an_agent_measures_onnxruntime_unless_told_otherwise_and_a_ray_node_what_is_measured_here():
    assert Target.parse("cpu@pi:7070").runtime == "onnxruntime"
    assert Target.parse("npu:openvino,precision=int8@folder:/mnt/a,b@c").place == "folder:/mnt/a,b@c"
    assert Target.parse("cpu@ray:pi").runtime == "eager"


@pytest.mark.parametrize(
    ("text", "told"),
    [("cpu@", "no place behind"), ("cpu@host", "HOST:PORT"), ("cpu:eager@host:1", "needs PyTorch"),
     ("cpu@folder:", "needs a path"), ("cpu@ray:a b", "no name of a Ray device"), ("cp u@host:1", "is no word"),
     ("cpu:onnxruntime,threads=0@host:1", "at least 1"),
     ("npu:eager@ray:pi", "npu")],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused_in_one_line(text, told):
    with pytest.raises(UsageError, match=told) as caught:
        Target.parse(text)
    assert "\n" not in str(caught.value)


@pytest.fixture
def target(agent, kit, monkeypatch):
    """ONNX Runtime on an agent of this process."""
    monkeypatch.setenv("NAS_AGENT_SECRET", kit.secret.decode())
    return Target.parse(f"cpu:onnxruntime,batch=2@127.0.0.1:{agent.port}")


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3))


def test_modules_and_files_are_measured_elsewhere_and_nodes_here(target, tmp_path):
    path = onnx_file(small(), torch.zeros(2, 3, 8, 8), target, tmp_path)
    large = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))
    found = measure_many([path, large], target, [8, 32], effort=Effort(0.2))
    assert [item.target for item in found] == [str(target)] * 2
    assert [item.resolution for item in found] == [8, 32]
    assert 0 < found[0].low <= found[0].median <= found[0].high < found[1].median
    assert anchor_seconds(target, 3) > 0
    assert place(target.place).environment(target)["runtime"].startswith("onnxruntime ")
    assert in_place(target)
    architecture = nas.load_space("tiny").smallest()
    table = LatencyTable(target, num_classes=10, anchor=1.0)
    node_times = sum(seconds for _, seconds in time_in_place([architecture], table))
    assert node_times > 0.05, "node times are scaled by the anchor of the place, which is a thousand times slower here"


def test_an_int8_target_sends_int8_files(target, agent, monkeypatch):
    seen = []
    job_of = agent.spool.put
    monkeypatch.setattr(agent.spool, "put", lambda name, header, body: (seen.append(body), job_of(name, header, body))[1])
    found = nas.measure(small(), Target("cpu", "onnxruntime", precision="int8", place=target.place), 8, accept_noise=True)
    assert found.median > 0
    assert b"QuantizeLinear" in seen[-1]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_precision_that_the_runtime_there_converts_to_is_sent_fp32_files(target, tmp_path, precision):
    wanted, example = Target("cpu", "openvino", precision=precision, place=target.place), torch.zeros(1, 3, 8, 8)
    content = shipped(small(), example, wanted).network.content
    assert b"QuantizeLinear" not in content
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    assert shipped(path, example, wanted).network.content == content
    with pytest.raises(MeasurementError, match=r"is fp32, and target .* asks for int8; give the int8 file"):
        shipped(path, example, Target("cpu", "onnxruntime", precision="int8", place=target.place))
    with pytest.raises(MeasurementError, match=f"onnxruntime runs files as they are, .* converts none to {precision}"):
        nas.measure(small(), Target("cpu", "onnxruntime", precision=precision, place=target.place), 8)


def test_a_file_that_the_runtime_refuses_is_told_with_its_reason(target, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(MeasurementError, match=r"network 1 of 1: onnxruntime refuses it: .*INVALID_PROTOBUF"):
        nas.measure(path, target, 8)
    with pytest.raises(MeasurementError, match=r"no device 'npu'; it has .*cpu"):
        nas.measure(small(), Target("npu", "onnxruntime", place=target.place), 8)


def test_a_candidate_is_verified_elsewhere_as_the_file_that_is_delivered(target):
    assert delivered(target) == "onnx"
    assert delivered(Target("cpu", "openvino", place=target.place)) == "onnx"
    network = nas.build(nas.load_space("tiny").smallest(), num_classes=10, in_channels=1)
    found = measure_network(network, target, 10, 1, accept_noise=True)
    assert found.target == str(target)
    assert found.median > 0


def test_a_runtime_that_the_agent_lacks_is_told_before_anything_is_measured(target):
    with pytest.raises(MeasurementError, match=r"no runtime 'litert', it has onnxruntime, toy"):
        Target("cpu", "litert", place=target.place).require()


def test_a_secret_is_asked_for(target, monkeypatch, tmp_path):
    monkeypatch.delenv("NAS_AGENT_SECRET")
    with pytest.raises(MeasurementError, match="asks for a secret"):
        target.require()
    (tmp_path / "short").write_text("123\n")
    monkeypatch.setenv("NAS_AGENT_SECRET_FILE", str(tmp_path / "short"))
    with pytest.raises(UsageError, match="fewer than 16"):
        target.require()


class FakeOpenVino:
    """What the agent needs of OpenVINO, which is not installed here."""

    __version__ = "0"

    def __init__(self):
        self.log = []

    def __getattr__(self, name):
        def call(*arguments):
            self.log.append((name, *arguments))
            return self

        return call


def test_openvino_is_asked_for_low_latency_on_the_targets_threads(monkeypatch):
    fake = FakeOpenVino()
    monkeypatch.setitem(__import__("sys").modules, "openvino", fake)
    example = torch.zeros(1, 3, 8, 8).numpy()
    run = RUNTIMES["openvino"].prepare(b"model", example, Wanted("cpu", "fp32", 2))
    run()
    calls = {name: arguments for name, *arguments in fake.log}
    assert calls["read_model"] == [b"model", b""]
    assert calls["reshape"] == [[1, 3, 8, 8]]
    assert calls["compile_model"][1] == "CPU"
    assert calls["compile_model"][2]["INFERENCE_NUM_THREADS"] == "2"
    assert calls["infer"] == [[example]]
