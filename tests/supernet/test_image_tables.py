"""Tables of images: parquet files as the hub stores them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from pictures import SIDE, assert_splits_are_sound, picture, refusal

from nas.errors import FileError
from nas.supernet.data import load_data


def table(count: int = 10, *, image: str = "image", label: str = "label", **columns: Any) -> pyarrow.Table:
    """Pictures of two classes as the hub stores them: a struct of encoded bytes and a path."""
    images, labels = [], []
    for number in range(count):
        for kind in (0, 1):
            buffer = io.BytesIO()
            picture(kind, number).save(buffer, "PNG")
            images.append({"bytes": buffer.getvalue(), "path": None})
            labels.append(kind)
    return pyarrow.table({image: images, label: labels, **columns})


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a table; the library's cache stays inside the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(content: pyarrow.Table, name: str = "animals.parquet") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(content, path)
        return path

    return write


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label")])
def test_parquet_files_hold_images_and_labels(parquet: Callable[..., Path], image: str, label: str) -> None:
    data = load_data(f"parquet:{parquet(table(20, image=image, label=label))}", SIDE)
    assert (data.classes, data.in_channels) == (("0", "1"), 3)
    assert_splits_are_sound(data, 40)
    left = data.train.images[:, :2, :, 0].float().mean(-1)
    assert torch.equal(left.argmax(1), data.train.labels)


def test_parquet_folders_keep_their_test_set(parquet: Callable[..., Path]) -> None:
    folder = parquet(table(10), "set/train-0.parquet").parent
    parquet(table(3), "set/test-0.parquet")
    data = load_data(f"parquet:{folder}", SIDE)
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 6)


def test_parquet_without_images_or_labels_is_refused(parquet: Callable[..., Path], tmp_path: Path) -> None:
    assert "no parquet file at" in refusal(f"parquet:{tmp_path / 'absent.parquet'}")
    assert "no parquet file at" in refusal("parquet:")
    found = refusal(f"parquet:{parquet(table(label='kind'))}")
    assert "needs the columns image and label, has image, kind" in found


def test_a_label_without_images_is_refused(parquet: Callable[..., Path]) -> None:
    for label in (2, 2**60):
        gap = table().set_column(1, "label", pyarrow.array([0, label] * 10))
        assert "class '1' of data" in refusal(f"parquet:{parquet(gap)}")


def declared(parquet: Callable[..., Path], names: list[str], labels: list[int], name: str = "animals.parquet") -> Path:
    """Pictures whose features name the classes, as the hub's do; of each label ten."""
    import datasets

    pictures = [picture(label % 2, number) for label in labels for number in range(10)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    rows = {"image": pictures, "label": [label for label in labels for _ in range(10)]}
    path = parquet(table(1), name)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def test_classes_that_are_named_but_not_shown_are_told_and_keep_their_output(parquet: Callable[..., Path]) -> None:
    data = load_data(f"parquet:{declared(parquet, ['ant', 'bee', 'cat', 'dog'], [0, 2])}", SIDE)
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert set(data.train.labels.tolist()) == {0, 2}
    (remark,) = data.remarks
    assert remark.startswith("2 of the 4 classes of data")
    assert "have no training images ('bee', 'dog')" in remark
    assert "add images, or take the names out" in remark
    assert "count as wrong" not in remark


def test_of_many_unused_names_some_are_told(parquet: Callable[..., Path]) -> None:
    names = [f"kind-{number}" for number in range(50)]
    (remark,) = load_data(f"parquet:{declared(parquet, names, [0, 1])}", SIDE).remarks
    assert remark.startswith("48 of the 50 classes")
    assert "'kind-6', ...)" in remark
    assert "kind-7" not in remark


def test_test_images_of_a_class_that_is_not_trained_are_told(parquet: Callable[..., Path]) -> None:
    names = ["ant", "bee", "cat"]
    folder = declared(parquet, names, [0, 1], "set/train.parquet").parent
    declared(parquet, names, [0, 1, 2], "set/test.parquet")
    data = load_data(f"parquet:{folder}", SIDE)
    assert "test images of them count as wrong" in data.remarks[0]
    assert (len(data.classes), int(data.test.labels.max())) == (3, 2)


def test_data_whose_names_are_all_shown_have_nothing_to_tell(parquet: Callable[..., Path]) -> None:
    assert load_data(f"parquet:{declared(parquet, ['ant', 'bee'], [0, 1])}", SIDE).remarks == ()


def test_a_nameless_label_of_test_images_alone_is_refused(parquet: Callable[..., Path]) -> None:
    folder = parquet(table(10), "set/train-0.parquet").parent
    parquet(table(3).set_column(1, "label", pyarrow.array([0, 2] * 3)), "set/test-0.parquet")
    assert "no training image has the label 2" in refusal(f"parquet:{folder}")


def test_a_damaged_parquet_file_is_refused(parquet: Callable[..., Path]) -> None:
    path = parquet(table())
    path.write_bytes(path.read_bytes()[:300])
    assert "cannot read the data" in refusal(f"parquet:{path}", FileError)


def test_parquet_with_a_damaged_image_is_refused(parquet: Callable[..., Path]) -> None:
    content = table().to_pydict()
    content["image"][3]["bytes"] = b"not an image"
    assert "the image of row 3 is damaged or no image" in refusal(f"parquet:{parquet(pyarrow.table(content))}", FileError)
    content["image"][3] = None
    assert "the image of row 3 is damaged or no image" in refusal(f"parquet:{parquet(pyarrow.table(content))}", FileError)


def test_parquet_with_a_missing_label_is_refused(parquet: Callable[..., Path]) -> None:
    content = table().to_pydict()
    content["label"][4] = None
    assert "row 4 of train of data" in refusal(f"parquet:{parquet(pyarrow.table(content))}")
