from pathlib import Path

import pytest
import torch
from torch import nn

from nas.errors import MeasurementError
from nas.predictors.runtime import names, register, runtime
from nas.predictors.target import Target


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    network[1].running_mean.uniform_(-1, 1)
    return network


EXAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["eager", "onnxruntime", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_runtime_computes_what_the_module_computes_in_evaluation_mode(name, model):
    out = runtime(name).prepare(model, EXAMPLE, Target(runtime=name, batch=2))()
    out = torch.as_tensor(out[0]) if isinstance(out, list) else out
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(out, model.eval()(EXAMPLE), rtol=1e-4, atol=1e-5)


def test_eager_runs_without_autograd_and_in_the_target_precision(model):
    out = runtime("eager").prepare(model, EXAMPLE, Target(batch=2, precision="bf16"))()
    assert out.dtype == torch.bfloat16
    assert out.is_inference()
    assert model[0].weight.dtype == torch.float32


def test_onnxruntime_runs_a_file(model, tmp_path):
    path = tmp_path / "model.onnx"
    torch.onnx.export(model.eval(), (EXAMPLE,), path, dynamo=True, verbose=False)
    out = runtime("onnxruntime").prepare(path, EXAMPLE, Target(runtime="onnxruntime"))()
    torch.testing.assert_close(torch.as_tensor(out[0]), model(EXAMPLE).detach(), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_or_loaded_is_named(tmp_path):
    class Stubborn(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    prepare = runtime("onnxruntime").prepare
    with pytest.raises(MeasurementError, match="cannot be exported to ONNX"):
        prepare(Stubborn(), EXAMPLE, Target(runtime="onnxruntime"))
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"cannot load bad\.onnx"):
        prepare(tmp_path / "bad.onnx", EXAMPLE, Target(runtime="onnxruntime"))


def test_eager_refuses_files():
    with pytest.raises(MeasurementError, match="runs modules, not files"):
        runtime("eager").prepare(Path("model.onnx"), EXAMPLE, Target())


def test_every_runtime_says_its_version_and_what_it_runs():
    assert {"eager", "compile", "onnxruntime"} <= set(names())
    for name in names():
        assert runtime(name).version()
        assert all(runtime(name).supports.values())


def test_a_registered_runtime_is_a_target(model, monkeypatch):
    monkeypatch.setattr("nas.predictors.runtime._REGISTRY", {})

    @register
    class Nothing:
        name = "nothing"
        supports = {"cpu": ("fp32",)}  # noqa: RUF012
        preparation = 0.0

        def prepare(self, model, example, target):
            return lambda: None

        def version(self):
            return "0"

    assert Target.parse("cpu:nothing").runtime == "nothing"
