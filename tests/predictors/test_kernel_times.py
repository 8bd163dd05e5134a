import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nas.errors import FileError, MeasurementError
from nas.predictors.coverage import operators_of_space
from nas.predictors.fresh_weights import told_apart
from nas.predictors.kernel_times import (
    KERNELS,
    LEAST,
    kernel_owners,
    node_clock,
    node_passes,
    time_in_network,
    without_profiler,
)
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.node_times import operators_of
from nas.predictors.samples import read_samples, samples_path
from nas.predictors.target import Target
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
ONNX = Target.parse("cpu:onnxruntime")


def test_the_kernels_of_a_network_are_shared_out_among_its_nodes():
    architecture = SPACE.sample(random.Random(3))
    recorded = []
    table = LatencyTable(ONNX, "tiny", num_classes=10)
    found = time_in_network(architecture, table, lambda kind, key, visit: recorded.append((kind, key, visit)))
    assert [node for node, _ in found] == list(nodes(architecture, None, 3, 10))
    assert all(seconds >= LEAST for _, seconds in found)
    mixers = [seconds for node, seconds in found if node.kind in ("token_mixer", "channel_mixer", "stem", "downsample", "head")]
    assert min(mixers) > LEAST
    assert {kind for kind, _, _ in recorded} == {"anchor", "node"}


def test_a_kernel_belongs_to_the_node_whose_weights_it_reads_or_that_lies_between(tmp_path):
    kernels = [
        ("conv", "Conv", ["image", "folded"], ["a"]),
        ("norm", "LayerNormalization", ["a", "nodes.split.norm.weight"], ["b"]),
        ("pool", "AveragePool", ["b"], ["c"]),
        ("gemm", "Gemm", ["b", "nodes.branch.op.weight"], ["d"]),
        ("gelu", "Gelu", ["d"], ["e"]),
        ("concat", "Concat", ["c", "e"], ["f"]),
        ("scale", "Mul", ["f", "nodes.join.scale"], ["g"]),
        ("folded", "Conv", ["g", "lost"], ["h"]),
        ("last", "Mul", ["h", "nodes.mixer.scale"], ["y"]),
    ]
    made = [helper.make_node(kind, read, put, name=name) for name, kind, read, put in kernels]
    constants = {name for _, _, read, _ in kernels for name in read if "." in name or name in ("folded", "lost")}
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1, 1], [1.0]) for name in constants]
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in ("image", "y")]
    (tmp_path / "m.onnx").write_bytes(
        helper.make_model(helper.make_graph(made, "g", *sides, initializer=weights)).SerializeToString()
    )
    names = ["stem", "split", "pooled", "branch", "join", "mixer"]
    found = {kernel: names[place] for kernel, place in kernel_owners(tmp_path / "m.onnx", names).items()}
    assert found == {
        "conv": "stem", "norm": "split", "pool": "pooled", "gemm": "branch", "gelu": "branch", "concat": "branch",
        "scale": "join", "folded": "mixer", "last": "mixer",
    }  # fmt: skip


def test_networks_are_timed_with_weights_that_an_exporter_cannot_merge():
    model = told_apart(build(SPACE.sample(random.Random(0)), 10, 3))
    seen = [parameter.detach().numpy().tobytes() for parameter in model.parameters()]
    assert len(set(seen)) == len(seen)


def test_kernels_count_with_their_node_pass_by_pass():
    events = [
        {"cat": "Node", "name": name + "_kernel_time", "dur": duration}
        for duration in (3, 5)
        for name in ("conv", "gelu", "gemm", "stranger")
    ]
    events.append({"cat": "Session", "name": "model_run", "dur": 100})
    passes = node_passes(events, {"conv": 0, "gelu": 0, "gemm": 2}, 3)
    np.testing.assert_allclose(passes, [[6e-6, 0, 3e-6], [10e-6, 0, 5e-6]])
    with pytest.raises(MeasurementError, match="names none"):
        node_passes(events, {}, 3)


@given(st.lists(st.tuples(st.floats(1e-6, 1e-3), st.integers(1, 20)), min_size=1, max_size=40), st.floats(0.3, 1.5))
def test_what_writing_kernels_down_takes_is_given_back_by_their_number(nodes_of_one, share):
    recorded, kernels = (np.array(column) for column in zip(*nodes_of_one, strict=True))
    whole = share * float(recorded.sum())
    found = without_profiler(recorded, kernels, whole)
    assert (found >= LEAST).all()
    assert (found <= recorded).all()
    if share >= 1:
        assert found == pytest.approx(recorded)
    given_back = (recorded - found) / kernels
    assert given_back[found > 1.01 * LEAST] == pytest.approx(given_back.max())


def test_nodes_sum_to_the_network_without_its_profiler():
    found = without_profiler(np.array([30e-6, 12e-6, 2e-6]), np.array([4, 2, 1]), 25e-6)
    assert found.sum() == pytest.approx(25e-6, rel=0.01)
    assert found[2] == LEAST


def test_times_of_two_clocks_are_never_mixed(tmp_path):
    assert node_clock(ONNX) == KERNELS
    assert node_clock(Target()) == node_clock(Target.parse("cpu:onnxruntime,precision=int8")) != KERNELS
    table = LatencyTable(ONNX, "tiny", num_classes=10, anchor=1e-3)
    table.add_node(nodes(SPACE.sample(random.Random(0)), None, 3, 10)[0], 1e-4)
    table.save(tmp_path / "t.json")
    with pytest.raises(FileError, match="nodes timed in place"):
        profile(SPACE, ONNX, tmp_path / "t.json", num_classes=10, seconds=0.1)


def test_node_times_come_with_the_training_networks(tmp_path):
    table = profile(SPACE, ONNX, tmp_path / "t.json", num_classes=10, train=2, held_out=1, seconds=0.5)
    known = {node.key for item in table.of_role(TRAIN) for node in nodes(item.architecture, None, 3, 10)}
    samples = [line for line in read_samples(samples_path(tmp_path / "t.json")) if line["what"] == "node"]
    assert known <= table.nodes.keys()
    assert table.census == 0
    first = next(iter(table.of_role(TRAIN))).architecture
    assert {node.key for node in nodes(first, None, 3, 10)} <= {line["id"] for line in samples}
    assert operators_of_space(SPACE) <= operators_of(table.nodes.values())
