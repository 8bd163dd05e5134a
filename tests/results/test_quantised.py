"""The int8 file: it is delivered, measured as such, and its accuracy is its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from nas.errors import MeasurementError, UsageError
from nas.predictors.quantisation import precision_of
from nas.predictors.target import Target
from nas.results.export import DEFAULT_FORMATS, Exported, export
from nas.results.quantised import Int8Accuracy, calibration_images, int8_accuracy
from nas.results.summary import Outcome
from nas.results.verification import delivered, measure_exported, measure_network
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.backbone import Backbone, build
from nas.supernet.calibration import score
from nas.supernet.data import DataSplits, load_data

INT8 = Target.parse("cpu:onnxruntime,precision=int8")
FP32 = Target.parse("cpu:onnxruntime")


@pytest.fixture(scope="module")
def data() -> DataSplits:
    return load_data("digits", 8, 200, 60)


@pytest.fixture(scope="module")
def network() -> Backbone:
    mixer = Op.of("depthwise_conv", kernel=3, dilation=1)
    stage = Stage(16, "batch", None, (Block((mixer,), Op.of("mlp", expansion=2)),))
    torch.manual_seed(0)
    return build(Architecture(8, Op.of("patchify", stride=2), (stage,)), 10, 1).eval()


@pytest.fixture(scope="module")
def exported(network: Backbone, data: DataSplits, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    images = calibration_images(data, 8)
    folder = tmp_path_factory.mktemp("winner") / "winner"
    formats = ("json", "safetensors", "python", "onnx", "int8")
    return export(network, folder, num_classes=10, in_channels=1, formats=formats, calibration=images)


def test_both_files_are_there_each_of_its_precision(exported: Exported) -> None:
    assert exported.files["int8"].name == "backbone.int8.onnx"
    assert precision_of(exported.files["int8"]) == "int8"
    assert precision_of(exported.files["onnx"]) == "fp32"
    assert exported.dynamic_batch["int8"]
    assert 0 < exported.differences["int8"] < 0.05


def test_the_recipe_and_the_export_say_what_stayed_in_fp32(exported: Exported) -> None:
    told = yaml.safe_load(exported.files["recipe"].read_text())["int8"]
    assert exported.quantised is not None
    assert told == {"operators_in_int8": exported.quantised.int8, "operators_in_fp32": exported.quantised.fp32}
    assert told["operators_in_int8"]["Conv"] >= 2
    assert "backbone.int8.onnx" in yaml.safe_load(exported.files["recipe"].read_text())["files"]


def test_the_int8_file_alone_leaves_no_other_behind(network: Backbone, tmp_path: Path) -> None:
    images = torch.randn(4, 1, 8, 8)
    found = export(network, tmp_path / "w", num_classes=10, in_channels=1, formats=("int8",), calibration=images)
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"backbone.int8.onnx", "recipe.yaml"}
    assert found.differences.keys() == {"int8"}


def test_int8_needs_images_and_is_made_only_where_it_is_asked_for(network: Backbone, tmp_path: Path) -> None:
    assert "int8" not in DEFAULT_FORMATS
    with pytest.raises(UsageError, match="int8 needs images to calibrate on"):
        export(network, tmp_path / "w", num_classes=10, in_channels=1, formats=("int8",))
    assert not (tmp_path / "w").exists()


def test_the_accuracy_is_that_of_the_file(exported: Exported, network: Backbone, data: DataSplits) -> None:
    found = int8_accuracy(exported.directory, data, 8, any_batch=True)
    assert found == int8_accuracy(exported.directory, data, 8, any_batch=False)
    for part, accuracy in ((data.validation, found.validation), (data.test, found.test)):
        assert accuracy == pytest.approx(score(network, data, part, 8).accuracy, abs=0.15)
    assert found.operators == str(exported.quantised)
    other = exported.directory.parent / "other"
    export(build(network.architecture, 10, 1), other, num_classes=10, in_channels=1, formats=("int8",),
           calibration=calibration_images(data, 8))  # fmt: skip
    assert int8_accuracy(other, data, 8, any_batch=True) != found


def test_calibration_images_are_of_all_classes_and_as_the_network_sees_them(data: DataSplits) -> None:
    images = calibration_images(data, 16)
    assert images.shape[1:] == (1, 16, 16)
    assert abs(float(images.mean())) < 0.2


def test_what_is_measured_is_what_is_delivered(
    exported: Exported, network: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.results.verification._SECONDS", 0.1)
    assert [delivered(target) for target in (Target(), FP32, INT8)] == ["python", "onnx", "int8"]
    for target in (FP32, INT8):
        found = measure_exported(exported.directory, target, 8, 1, accept_noise=True)
        assert found.target == str(target)
    exported.files["int8"].rename(tmp_path / "kept")
    try:
        with pytest.raises(MeasurementError, match=r"backbone\.int8\.onnx"):
            measure_exported(exported.directory, INT8, 8, 1, accept_noise=True)
    finally:
        (tmp_path / "kept").rename(exported.files["int8"])
    assert measure_network(network, INT8, 10, 1, accept_noise=True).median > 0


def test_the_summary_tells_both_accuracies() -> None:
    outcome = Outcome(
        digest="d", latency=1e-3, latency_low=1e-3, latency_high=1e-3, latency_p90=1e-3, latency_p99=1e-3,
        latency_predicted=1e-3, budgets={}, target=str(INT8), memory=1.0, objectives=("accuracy",), targets={}, taken_over=0,
        screening={},
        accuracy_test=0.9, accuracy_validation=0.91, params=1, macs=1, resolution=8, num_classes=10, in_channels=1,
        evaluations=1, predictor={}, durations={}, run="r", int8=vars_of(Int8Accuracy(0.88, 0.87, "in int8: 2 Conv")),
    )  # fmt: skip
    rows = dict(outcome.lines())
    assert "87.00% on test images, 88.00% on validation images" in rows["int8"]
    assert "in int8: 2 Conv" in rows["int8"]
    assert Int8Accuracy.from_mapping(outcome.to_mapping()["int8"]) == Int8Accuracy(0.88, 0.87, "in int8: 2 Conv")
    assert Int8Accuracy.from_mapping(None) is None


def vars_of(found: Int8Accuracy) -> dict[str, object]:
    return {"validation": found.validation, "test": found.test, "operators": found.operators}
