"""Exported files: they agree with the network, or nothing is left behind."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from torch import nn

from nas.errors import FileError, UnknownNameError, UsageError
from nas.predictors.translations import TRANSLATIONS
from nas.results import export as exporting
from nas.results.export import TOLERANCE, Exported, export, load_backbone, load_exported
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.backbone import Backbone, build

LIGHT = ("json", "safetensors", "python")


@pytest.fixture(scope="module")
def exported(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("runs") / "winner"
    return export(backbone, folder, num_classes=10, in_channels=1, recipe={"epochs": 3, "mixup": [0.1, 0.2]})


def small(resolution: int = 8) -> Architecture:
    mixer = Op.of("window_attention", heads=2, window=2, shift=True)
    return Architecture(resolution, Op.of("patchify", stride=2), (Stage(8, "layer", None, (Block((mixer,), None),)),))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_every_format_is_there_and_agrees(exported: Exported) -> None:
    assert sorted(path.name for path in exported.directory.iterdir()) == [
        "architecture.json",
        "backbone.onnx",
        "backbone.pt2",
        "backbone.py",
        "recipe.yaml",
        "weights.safetensors",
    ]
    assert all(path.exists() for path in exported.files.values())
    assert exported.differences["python"] == 0
    assert exported.differences["onnx"] <= TOLERANCE
    assert exported.differences["torch"] <= TOLERANCE
    assert exported.dynamic_batch == {"onnx": True, "torch": True}
    assert list(exported.directory.parent.iterdir()) == [exported.directory]


def test_what_is_loaded_back_gives_the_same_bits(exported: Exported, backbone: Backbone) -> None:
    x = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_exported(exported.directory)(x), backbone(x))
        assert torch.equal(load_backbone(exported.directory)(x), backbone(x))
    assert load_backbone(exported.directory).architecture == backbone.architecture


@pytest.mark.parametrize("batch", [1, 5])
def test_the_onnx_file_takes_any_batch_and_can_be_fixed_to_one(exported: Exported, backbone: Backbone, batch: int) -> None:
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("batch", batch)
    x = torch.randn(batch, 1, 32, 32)
    for chosen in (onnxruntime.SessionOptions(), options):
        session = onnxruntime.InferenceSession(str(exported.files["onnx"]), chosen, providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])
        with torch.no_grad():
            assert torch.allclose(found, backbone(x), rtol=1e-4, atol=1e-4)
    assert session.get_inputs()[0].shape[0] == batch


def test_the_recipe_tells_how_to_feed_the_network(exported: Exported, backbone: Backbone) -> None:
    recipe = yaml.safe_load(exported.files["recipe"].read_text())
    assert recipe["network"] == backbone.architecture.digest
    assert recipe["num_classes"] == 10
    assert (recipe["input"]["channels"], recipe["input"]["size"]) == (1, 32)
    assert recipe["recipe"] == {"epochs": 3, "mixup": [0.1, 0.2]}


def test_no_file_names_a_place_on_this_machine(exported: Exported) -> None:
    here = str(Path(__file__).resolve().parents[2]).encode()
    for name, data in contents(exported.directory).items():
        assert here not in data, name
        assert b"site-packages" not in data, name


def test_others_may_read_the_files(exported: Exported) -> None:
    umask = stat.S_IMODE(exported.directory.stat().st_mode) & 0o666
    assert {stat.S_IMODE(path.stat().st_mode) for path in exported.directory.iterdir()} == {umask}


def test_exporting_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    export(build(small(), 3, 1), tmp_path / "w", num_classes=3, in_channels=1, formats=("onnx",))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_second_export_replaces_the_first_and_leaves_other_files(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export(build(small(), 3, 1), tmp_path, num_classes=3, in_channels=1, formats=LIGHT)
    export(backbone, tmp_path, num_classes=10, in_channels=1, formats=LIGHT)
    assert load_backbone(tmp_path).architecture == backbone.architecture
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_network_in_training_is_exported_as_it_evaluates_and_left_as_it_was(mixed: Architecture, tmp_path: Path) -> None:
    model = build(mixed, 10, 1).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(model, tmp_path / "w", num_classes=10, in_channels=1, formats=LIGHT)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_standalone_file_that_differs_is_refused(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(backbone, tmp_path / "w", num_classes=10, in_channels=1, formats=LIGHT)
    before = contents(tmp_path / "w")

    def wrong(*args: object, **kwargs: int) -> str:
        return SOURCE(*args, **kwargs).replace("return x + self.scale", "return x + 1.0001 * self.scale")

    SOURCE = exporting.bundle_source
    monkeypatch.setattr(exporting, "bundle_source", wrong)
    for folder in ("w", "new"):
        with pytest.raises(FileError, match=r"backbone\.py differs from the network"):
            export(backbone, tmp_path / folder, num_classes=10, in_channels=1, formats=LIGHT)
    assert contents(tmp_path / "w") == before
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_an_onnx_file_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unscaled(query: object, key: object, value: object, attn_mask: object = None, **rest: object) -> object:
        return right(query, key, value, None, scale=3.0)

    operation = torch.ops.aten.scaled_dot_product_attention.default
    right = TRANSLATIONS[operation]
    monkeypatch.setitem(TRANSLATIONS, operation, unscaled)
    model = build(small(), 3, 1)
    nn.init.normal_(model.nodes["s0b0_mixer"].op.position.table, std=2.0)
    with pytest.raises(FileError, match=r"backbone\.onnx differs from the network"):
        export(model, tmp_path / "w", num_classes=3, in_channels=1, formats=("onnx",))
    assert not list(tmp_path.iterdir())


def test_a_network_that_needs_its_batch_size_is_exported_for_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.search_spaces.layers import Stem

    def forward(self: Stem, image: torch.Tensor) -> torch.Tensor:
        torch._check(image.shape[0] in (1, 2))
        return self.norm(self.op(image)) * float(int(image.shape[0]) > 0)

    monkeypatch.setattr(Stem, "forward", forward)
    done = export(build(small(), 3, 1), tmp_path / "w", num_classes=3, in_channels=1, formats=("onnx", "torch"))
    assert done.dynamic_batch == {"onnx": False, "torch": False}
    assert max(done.differences.values()) <= TOLERANCE


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: (m, {"num_classes": 4}), "3 classes"),
        (lambda m: (m, {"in_channels": 2}), "images"),
        (lambda m: (m.double(), {}), "float32"),
        (lambda m: (nn.Linear(3, 3), {}), "classifier"),
        (lambda m: (build(small(), 3, 1, features_only=True), {}), "classifier"),
        (lambda m: (m, {"recipe": {"bad": object()}}), "plain"),
    ],
)
def test_wrong_requests_are_refused_and_leave_nothing(change: object, complaint: str, tmp_path: Path) -> None:
    model, options = change(build(small(), 3, 1))  # type: ignore[operator]
    with pytest.raises(UsageError, match=complaint):
        export(model, tmp_path / "w", **{"num_classes": 3, "in_channels": 1, "formats": LIGHT, **options})
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_answered_with_the_nearest(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'onnx'"):
        export(backbone, tmp_path / "w", num_classes=10, in_channels=1, formats=("onx",))


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = build(small(), 3, 1)
    nn.init.constant_(model.nodes["head"].linear.bias, float("nan"))
    with pytest.raises(FileError, match="not finite"):
        export(model, tmp_path / "w", num_classes=3, in_channels=1, formats=LIGHT)


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.directory, tmp_path / "copy"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_truncated_weights_are_refused(copied: Path) -> None:
    truncate(copied / "weights.safetensors")
    for load in (load_backbone, load_exported):
        with pytest.raises(FileError, match=r"weights\.safetensors"):
            load(copied)


def test_weights_that_are_a_pickle_are_refused(copied: Path) -> None:
    torch.save({"a": torch.zeros(1)}, copied / "weights.safetensors")
    for load in (load_backbone, load_exported):
        with pytest.raises(FileError, match=r"weights\.safetensors"):
            load(copied)


def test_weights_of_another_network_are_refused(copied: Path, tmp_path: Path) -> None:
    export(build(small(), 3, 1), tmp_path / "other", num_classes=3, in_channels=1, formats=LIGHT)
    shutil.copy(tmp_path / "other" / "weights.safetensors", copied)
    with pytest.raises(FileError, match="belongs to network"):
        load_backbone(copied)
    with pytest.raises(FileError, match="does not fit"):
        load_exported(copied)


def test_damaged_architectures_are_refused(copied: Path) -> None:
    truncate(copied / "architecture.json")
    with pytest.raises(FileError, match="damaged"):
        load_backbone(copied)
    (copied / "architecture.json").write_text(json.dumps({"format": "something else"}))
    with pytest.raises(FileError, match="not an architecture"):
        load_backbone(copied)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"architecture\.json"):
        load_backbone(tmp_path)
    with pytest.raises(FileError, match=r"backbone\.py"):
        load_exported(tmp_path)
