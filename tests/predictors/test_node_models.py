import random

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from nas.errors import MeasurementError
from nas.predictors.fresh_weights import told_apart
from nas.predictors.node_models import DONE, NodeModels, opened
from nas.predictors.runtimes.onnxruntime import exported, open_session, session_options
from nas.predictors.target import Target
from nas.predictors.tracing import scope_of
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
ONNX = Target.parse("cpu:onnxruntime")


@pytest.fixture(scope="module", params=[3, pytest.param(8, marks=pytest.mark.thorough)])
def cut(request, tmp_path_factory):
    """A network's models, its nodes, and what the network gives."""
    folder = tmp_path_factory.mktemp("cut")
    architecture = SPACE.sample(random.Random(request.param))
    image = torch.randn(1, 3, architecture.resolution, architecture.resolution)
    exported(told_apart(build(architecture, 10, 3)), image, folder / "m.onnx")
    options = session_options(ONNX)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    session = open_session(folder / "m.onnx", options)
    found = nodes(architecture, None, 3, 10)
    models = NodeModels.cut(folder / "optimised.onnx", [node.name for node in found], image.numpy(), ONNX)
    logits = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    return models, found, logits, folder


def results(model, path):
    """What a model gives, by name."""
    session = opened(model, path, ONNX)
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, {}), strict=True))


def test_every_kernel_is_in_one_group_in_the_order_in_which_it_runs(cut):
    models, found, _, _ = cut
    order = [kernel.output[0] for kernel in models.model.graph.node]
    places = [[order.index(kernel.output[0]) for kernel in group] for group in models.groups]
    assert len(models.groups) == len(found)
    assert sorted(number for group in places for number in group) == list(range(len(order)))
    assert all(group == sorted(group) for group in places)


def test_measured_files_name_the_node_of_the_backbone_before_every_kernel_and_value(cut):
    models, found, _, folder = cut
    graph, names = onnx.load(folder / "m.onnx").graph, {node.name for node in found}
    outputs = {item.name for item in graph.output}
    assert {scope_of(kernel.name) for kernel in graph.node} == names
    for kernel in graph.node:
        assert {scope_of(name) for name in kernel.output if name not in outputs} <= {scope_of(kernel.name)}
    kept = [kernel for group in models.groups for kernel in group if scope_of(kernel.name) in names]
    assert len(kept) > len(models.model.graph.node) / 2


def test_the_models_of_nodes_compute_what_the_network_computes(cut):
    models, _, logits, folder = cut
    seen = {}
    for place, group in enumerate(models.groups):
        if group:
            seen.update(results(models.alone(place, 1), folder / "node.onnx"))
    assert models.values.keys() - seen.keys() == {models.model.graph.input[0].name}
    for name, value in models.values.items():
        if name in seen:
            np.testing.assert_allclose(seen[name], value, rtol=1e-5, atol=1e-6)
    (output,) = models.outputs
    np.testing.assert_allclose(seen[output], logits, rtol=1e-5, atol=1e-6)


def test_copies_have_kernels_and_weights_of_their_own_and_read_the_same_maps(cut):
    models, _, _, folder = cut
    place = max(range(len(models.groups)), key=lambda index: len(models.groups[index]))
    one, three = models.alone(place, 1), models.alone(place, 3)
    assert len(three.graph.node) - 1 == 3 * (len(one.graph.node) - 1)
    assert [item.name for item in three.graph.input] == [item.name for item in one.graph.input]
    shared = len(one.graph.input) + 1
    assert len(three.graph.initializer) - shared == 3 * (len(one.graph.initializer) - shared)
    made = [name for kernel in three.graph.node for name in kernel.output if name]
    assert len(set(made)) == len(made)
    for name, value in results(three, folder / "three.onnx").items():
        if name != DONE:
            np.testing.assert_allclose(value, results(one, folder / "one.onnx")[name], rtol=1e-5, atol=1e-6)


def test_a_call_without_kernels_gives_its_number_alone(cut):
    models, _, _, folder = cut
    assert results(models.alone(None, 0), folder / "none.onnx") == {DONE: [0.0]}


def test_a_sequence_between_nodes_is_refused(tmp_path):
    kernels = [
        helper.make_node("SplitToSequence", ["image"], ["a/parts"], name="a/split"),
        helper.make_node("SequenceAt", ["a/parts", "nodes.b.place"], ["y"], name="b/take"),
    ]
    place = helper.make_tensor("nodes.b.place", TensorProto.INT64, [], [0])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(kernels, "g", [image], [out], initializer=[place])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(MeasurementError, match="a/parts passes between nodes and is no tensor"):
        NodeModels.cut(tmp_path / "m.onnx", ["a", "b"], np.zeros((2, 1), np.float32), ONNX)


def test_kernels_that_an_optimiser_left_without_names_are_timed_too(tmp_path):
    made = [
        helper.make_node(kind, [read], [put])
        for kind, read, put in (
            ("Relu", "image", "a/x"),
            ("Neg", "a/x", "a/y"),
            ("Exp", "a/y", "b/z"),
            ("Identity", "b/z", "y"),
        )
    ]
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])] for name in ("image", "y")]
    graph = helper.make_graph(made, "g", *sides)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    models = NodeModels.cut(tmp_path / "m.onnx", ["a", "b", "c"], np.array([-1, 2], np.float32), ONNX)
    assert [[kernel.op_type for kernel in group] for group in models.groups] == [["Relu", "Neg"], ["Exp", "Identity"], []]
    found = results(models.alone(0, 3), tmp_path / "node.onnx")
    np.testing.assert_array_equal(found["a/y"], [0, -2])
