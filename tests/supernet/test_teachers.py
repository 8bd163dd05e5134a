"""Teachers from outside: they see what their weights expect, and a wrong one is refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm_models import timm
from torch import Tensor

from nas.errors import FileError, UnknownNameError, UsageError
from nas.supernet.data import DataSplits
from nas.supernet.teachers import teacher

Few = Callable[[int], DataSplits]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    model = timm.create_model("mobilevit_xxs", num_classes=10).eval()
    path = tmp_path_factory.mktemp("teacher") / "mobilevit.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("text", ["catalog:mobilevit_xxs={}", "timm:mobilevit_xxs={}"])
def test_a_teacher_gives_its_models_probabilities(few: Few, saved: tuple[torch.nn.Module, Path], text: str) -> None:
    data, (model, path) = few(16), saved
    found = teacher(text.format(path), data)
    assert found is not None
    images = data.train.images[:2]

    def seen(side: int) -> Tensor:
        """As its published weights expect: mean 0 and deviation 1."""
        coloured = images.float().repeat(1, 3, 1, 1) / 255.0
        return torch.nn.functional.interpolate(coloured, size=(side, side), mode="bilinear", antialias=True)

    with torch.no_grad():
        wanted = model(seen(256)).softmax(1)
    torch.testing.assert_close(found(images), wanted, rtol=1e-3, atol=1e-5)


def test_a_teacher_that_is_where_the_images_are_is_not_moved(
    few: Few, saved: tuple[torch.nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving writes to the weights, from which other threads read."""
    data = few(16)
    found = teacher(f"catalog:mobilevit_xxs={saved[1]}", data)
    assert found is not None
    monkeypatch.delattr(torch.nn.Module, "to")
    assert found(data.train.images[:2]).shape == (2, 10)


def test_a_teacher_sees_images_as_its_weights_expect(few: Few, tmp_path: Path) -> None:
    """ImageNet's mean and deviation here, unlike above."""
    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", num_classes=10).eval()
    save_file(model.state_dict(), tmp_path / "weights")
    data = few(16)
    images = data.train.images[:2]
    coloured = images.float().repeat(1, 3, 1, 1) / 255.0
    scaled = torch.nn.functional.interpolate(coloured, size=(224, 224), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        wanted = model((scaled - mean) / std).softmax(1)
    for library in ("catalog", "timm"):
        found = teacher(f"{library}:convnext_atto={tmp_path / 'weights'}", data)
        assert found is not None
        torch.testing.assert_close(found(images), wanted, rtol=1e-3, atol=1e-5)


def test_weights_of_another_model_are_refused_in_one_line(few: Few, saved: tuple[torch.nn.Module, Path]) -> None:
    with pytest.raises(FileError, match="the teacher's weights are not those of timm's 'mobilevit_xs'"):
        teacher(f"timm:mobilevit_xs={saved[1]}", few(16))


def test_no_text_is_no_teacher(few: Few) -> None:
    assert teacher("", few(16)) is None


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("tim:resnet18", UnknownNameError, "timm"),
        ("catalog:mobilevit_xxs", UsageError, "needs weights"),
        ("catalog:mobilevit_xxs=/nowhere.safetensors", FileError, "cannot read the teacher's weights"),
    ],
)
def test_a_wrong_teacher_is_refused(few: Few, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        teacher(text, few(16))


def test_a_teacher_of_other_classes_is_refused(few: Few, tmp_path: Path) -> None:
    save_file(timm.create_model("mobilevit_xxs", num_classes=7).state_dict(), tmp_path / "seven")
    with pytest.raises(UsageError, match="has 7 classes, the data has 10: fine-tune it"):
        teacher(f"catalog:mobilevit_xxs={tmp_path / 'seven'}", few(16))
