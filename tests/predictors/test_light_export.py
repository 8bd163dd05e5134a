"""Exports that leave to ONNX Runtime what it simplifies itself."""

import importlib
import random
from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from nas.errors import MeasurementError
from nas.predictors import tracing
from nas.predictors.fresh_weights import told_apart
from nas.predictors.runtimes.onnxruntime import exported, open_session, session_options
from nas.predictors.target import Target
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space

VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Kernels that only count the axes of a tensor otherwise."""
TARGET = Target.parse("cpu:onnxruntime")


def loaded(model, image, folder, light):
    """What ONNX Runtime makes of a model: how many kernels of each kind, and the logits."""
    path, made = folder / f"{light}.onnx", folder / f"{light}.made.onnx"
    exported(model, image, path, light=light)
    options = session_options(TARGET)
    options.optimized_model_filepath = str(made)
    logits = open_session(path, options).run(None, {"image": image.numpy()})[0]
    return Counter(node.op_type for node in onnx.load(made).graph.node), logits


@pytest.mark.parametrize(
    ("space", "seed"),
    [
        ("tiny", 106),
        *(pytest.param(*each, marks=pytest.mark.thorough) for each in (("tiny", 101), *(("mobile", n) for n in range(3)))),
    ],
)
def test_onnx_runtime_makes_the_same_kernels_of_a_light_export(tmp_path, space, seed):
    member = load_space(space).sample(random.Random(seed))
    model, image = told_apart(build(member, 10, 3)).eval(), torch.randn(1, 3, member.resolution, member.resolution)
    whole, logits = loaded(model, image, tmp_path, light=False)
    light, same = loaded(model, image, tmp_path, light=True)
    np.testing.assert_allclose(same, logits, rtol=1e-4, atol=1e-5)
    more = sum(light.pop(kind, 0) - whole.pop(kind, 0) for kind in VIEWS)
    assert light == whole
    assert 0 <= more <= 0.02 * whole.total()


def test_the_exporter_lists_its_translations_once_and_is_left_as_it_was(tmp_path, monkeypatch):
    apis = importlib.import_module("torch.onnx._internal.exporter._registration").onnxscript_apis
    listed, told, calls = apis.get_torchlib_ops, torch.fx.config.do_not_emit_stack_traces, []

    def counted():
        calls.append(1)
        return listed()

    monkeypatch.setattr(apis, "get_torchlib_ops", counted)
    for index in range(2):
        exported(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), tmp_path / f"{index}.onnx")
    assert len(calls) == 1
    assert apis.get_torchlib_ops is counted
    with pytest.raises(MeasurementError):
        exported(torch.nn.LSTM(3, 4), torch.zeros(1, 3, 8, 8), tmp_path / "none.onnx")
    assert (apis.get_torchlib_ops, torch.fx.config.do_not_emit_stack_traces) == (counted, told)


@pytest.mark.parametrize("gone", ["UNTOLD", "REGISTRATION"])
def test_a_release_that_cannot_be_told_so_is_exported_with_all_the_same(tmp_path, monkeypatch, gone):
    monkeypatch.setattr(tracing, gone, "elsewhere")
    exported(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists()
