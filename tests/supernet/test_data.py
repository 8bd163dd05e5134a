"""Data sources, their splits, and what is done to images."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor

from nas.errors import FileError, NasError, UnknownNameError, UsageError
from nas.supernet.data import DataSplits, ImageSet, load_data, source_names
from nas.supernet.data.pixels import to_tensor

SIDE = 8


def picture(label: int, number: int, size: tuple[int, int] = (12, 9)) -> Image.Image:
    """A picture whose left half is red for class 0 and green for class 1, with some noise."""
    pixels = np.random.default_rng(100 * label + number).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2, label] = 250
    return Image.fromarray(pixels)


def make_folder(root: Path, count: int = 10, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(label, number).save(root / name / f"{number}.png")
    return root


def refusal(spec: str, kind: type[NasError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        load_data(spec, SIDE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(part: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


def assert_splits_are_sound(data: DataSplits, total: int) -> None:
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == total
    assert sum(len(rows(part)) for part in parts) == len(set().union(*map(rows, parts))) == total
    counts = [torch.bincount(part.labels, minlength=len(data.classes)) for part in parts]
    for count, part in zip(counts, parts, strict=True):
        assert (count - sum(counts) * (len(part) / total)).abs().max() <= 1
    assert len(data.test) == pytest.approx(0.2 * total, abs=1)
    assert len(data.validation) == pytest.approx(0.16 * total, abs=1)


def test_digits_have_stratified_disjoint_splits(digits: DataSplits) -> None:
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape[1:] == (1, 16, 16)
    assert (digits.in_channels, digits.classes, digits.flip) == (1, tuple("0123456789"), False)
    assert_splits_are_sound(digits, 1797)


def test_splits_are_fixed(digits: DataSplits) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    again = load_data("digits", 16)
    assert again.fingerprint == digits.fingerprint
    assert torch.equal(again.test.images, digits.test.images)
    assert load_data("digits", 8).fingerprint != digits.fingerprint
    assert torch.equal(load_data("digits", 8).test.labels, digits.test.labels)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_fingerprint_changes_with_one_pixel_and_one_label(digits: DataSplits, part: str) -> None:
    split = getattr(digits, part)
    pixels, labels = split.images.clone(), split.labels.clone()
    pixels[-1, 0, 0, 0] ^= 1
    labels[-1] = (labels[-1] + 1) % 10
    changed = [
        dataclasses.replace(digits, **{part: ImageSet(pixels, split.labels)}).fingerprint,
        dataclasses.replace(digits, **{part: ImageSet(split.images, labels)}).fingerprint,
    ]
    assert len({digits.fingerprint, *changed}) == 3


def test_the_fingerprint_changes_when_an_image_moves_between_splits(digits: DataSplits) -> None:
    both = ImageSet(
        torch.cat([digits.train.images, digits.validation.images]), torch.cat([digits.train.labels, digits.validation.labels])
    )
    cut = len(digits.train) - 1
    moved = dataclasses.replace(digits, train=both.take(torch.arange(cut)), validation=both.take(torch.arange(cut, len(both))))
    assert moved.fingerprint != digits.fingerprint


def test_prepared_images_are_normalised_with_the_training_images(digits: DataSplits) -> None:
    prepared = digits.prepare(digits.train.images, 16)
    assert prepared.dtype == torch.float32
    assert prepared.mean().item() == pytest.approx(0, abs=1e-4)
    assert prepared.std().item() == pytest.approx(1, abs=1e-3)
    assert digits.prepare(digits.train.images[:3], 40).shape == (3, 1, 40, 40)


def test_augmentation_keeps_shape_and_type_and_follows_its_generator(digits: DataSplits) -> None:
    images = digits.train.images[:50]

    def drawn(seed: int) -> Tensor:
        return digits.augment(images, torch.Generator().manual_seed(seed))

    assert drawn(0).shape == images.shape
    assert drawn(0).dtype == torch.uint8
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """An image (C, H, W) moved with its edges repeated."""
    height, width = image.shape[1:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_moves_by_an_eighth_and_mirrors_only_where_it_may(flip: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=generator)
    part = ImageSet(image[None], torch.zeros(1))
    data = DataSplits("x", ("a", "b"), part, part, part, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), flip)
    moves = {(down, right): shifted(image, down, right) for down in range(-2, 3) for right in range(-2, 3)}
    straight = {moved.numpy().tobytes() for moved in moves.values()}
    mirrored = {moved.flip(2).numpy().tobytes() for moved in moves.values()}
    found = [i.numpy().tobytes() for i in data.augment(image.expand(600, -1, -1, -1), generator)]
    assert set(found) == (straight | mirrored if flip else straight)
    share = sum(item in mirrored for item in found) / len(found)
    assert share == 0 if not flip else 0.4 < share < 0.6


def test_folders_hold_one_class_each(tmp_path: Path) -> None:
    data = load_data(f"folder:{make_folder(tmp_path, count=20)}", SIDE)
    assert (data.classes, data.in_channels, data.flip) == (("cat", "dog"), 3, True)
    assert data.train.images.shape[1:] == (3, SIDE, SIDE)
    assert_splits_are_sound(data, 40)
    for part in (data.train, data.validation, data.test):
        left = part.images[:, :2, :, 0].float().mean(-1)
        assert torch.equal(left.argmax(1), part.labels)


def test_folders_with_train_and_test_keep_their_test_set(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", 10)
    make_folder(tmp_path / "test", 3)
    data = load_data(f"folder:{tmp_path}", SIDE)
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 6)


@pytest.mark.parametrize(("train", "held"), [("Train", "val"), ("training", "Validation"), ("train", "TEST")])
def test_parts_of_a_data_set_are_no_classes_whatever_they_are_called(tmp_path: Path, train: str, held: str) -> None:
    make_folder(tmp_path / train, 10)
    make_folder(tmp_path / held, 3)
    data = load_data(f"folder:{tmp_path}", SIDE)
    assert (data.classes, len(data.train), len(data.validation), len(data.test)) == (("cat", "dog"), 16, 4, 6)
    assert any("is held back for the winner's test" in line for line in data.remarks) == (held != "TEST")


def test_the_test_part_goes_before_a_validation_part_which_is_told(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("test", 3), ("val", 4)):
        make_folder(tmp_path / part, count)
    data = load_data(f"folder:{tmp_path}", SIDE)
    assert (len(data.train) + len(data.validation), len(data.test)) == (20, 6)
    assert data.remarks == (f"data folder {tmp_path}: images in val are not used",)


def test_parts_without_training_images_are_not_taken_for_classes(tmp_path: Path) -> None:
    for part in ("test", "val"):
        make_folder(tmp_path / part, 6)
    assert "has the parts test, val and no classes" in refusal(f"folder:{tmp_path}")


def test_pixels_of_16_bits_keep_their_shades_and_cameras_are_turned_upright(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        found = to_tensor(image, SIDE)
    assert torch.equal(found[0], torch.from_numpy((ramp >> 8).astype(np.uint8)))
    upright = picture(0, 0, (SIDE, SIDE))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert torch.equal(to_tensor(image, SIDE), to_tensor(upright, SIDE))


def test_mean_and_deviation_are_those_of_all_pixels(digits: DataSplits) -> None:
    pixels = digits.train.images.double() / 255.0
    torch.testing.assert_close(digits.mean.double(), pixels.mean((0, 2, 3))[:, None, None])
    torch.testing.assert_close(digits.std.double(), pixels.std((0, 2, 3), correction=0)[:, None, None])


def test_images_of_any_mode_and_form_become_colour_squares(tmp_path: Path) -> None:
    make_folder(tmp_path, 6)
    for number, mode in enumerate(("L", "RGBA", "P", "1", "LA", "CMYK")):
        suffix = "tiff" if mode == "CMYK" else "png"
        picture(0, number, (5 + 9 * number, 30)).convert(mode).save(tmp_path / "cat" / f"mode{number}.{suffix}")
    (tmp_path / "cat" / "notes.txt").write_text("not an image, and not asked for")
    data = load_data(f"folder:{tmp_path}", SIDE)
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 18


def test_folders_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(f"folder:{tmp_path / 'absent'}")
    assert "write --data folder:PATH" in refusal("folder:")
    assert "has 0 sub-folders with images" in refusal(f"folder:{tmp_path}")
    (tmp_path / "cat").mkdir()
    assert "has 0 sub-folders with images" in refusal(f"folder:{tmp_path}")
    picture(0, 0).save(tmp_path / "cat" / "0.png")
    assert "has 1 sub-folders with images, needs at least 2" in refusal(f"folder:{tmp_path}")


def test_an_empty_class_is_named_with_its_folder(tmp_path: Path) -> None:
    make_folder(tmp_path, 6)
    (tmp_path / ".cache").mkdir()
    assert load_data(f"folder:{tmp_path}", SIDE).classes == ("cat", "dog")
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "notes.txt").write_text("no image")
    said = refusal(f"folder:{tmp_path}")
    assert said.startswith(f"class 'emu' is empty: {tmp_path / 'emu'} has no images")
    assert said.endswith("add some, or remove the folder")


@pytest.mark.parametrize("part", ["train", "test"])
def test_classes_of_only_one_part_are_named(tmp_path: Path, part: str) -> None:
    """Images of a class that is not trained would be left out of the test in silence."""
    for each in ("train", "test"):
        make_folder(tmp_path / each, 6)
    (tmp_path / part / "emu").mkdir()
    picture(0, 0).save(tmp_path / part / "emu" / "0.png")
    assert "class 'emu' has images in only one of" in refusal(f"folder:{tmp_path}")


def test_classes_with_too_few_images_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, 8)
    for number in range(2, 8):
        (tmp_path / "dog" / f"{number}.png").unlink()
    assert "5 images each; the smallest class has 2" in refusal(f"folder:{tmp_path}")


def test_classes_that_a_split_cannot_show_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / str(label)).mkdir()
        for number in range(5):
            Image.new("RGB", (8, 8), (label, number, 0)).save(tmp_path / str(label) / f"{number}.png")
    assert "give at least 8 images of each" in refusal(f"folder:{tmp_path}")


@pytest.mark.parametrize("count", range(1, 9))
def test_small_classes_are_split_or_refused_in_one_line(tmp_path: Path, count: int) -> None:
    spec = f"folder:{make_folder(tmp_path, count)}"
    if count < 5:
        assert "needs at least two classes with 5 images each" in refusal(spec)
    else:
        data = load_data(spec, SIDE)
        assert all(len(part.labels.unique()) >= 1 for part in (data.train, data.validation, data.test))


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated", "broken"])
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    make_folder(tmp_path, 6)
    file = tmp_path / "dog" / "3.png"
    whole = file.read_bytes()
    broken = whole[: whole.index(b"IDAT")] + bytes(4) + whole[whole.index(b"IDAT") + 4 :]  # Pillow raises a SyntaxError
    spoilt = {"truncated": whole[: len(whole) // 2], "broken": broken}
    file.write_bytes(spoilt[content] if isinstance(content, str) else content)
    assert f"image {file} is damaged or no image" in refusal(f"folder:{tmp_path}", FileError)


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


def test_unknown_sources_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown data source 'digit'\. Did you mean 'digits'\?"):
        load_data("digit", SIDE)
    assert "takes no path" in refusal("digits:somewhere")
    assert "needs a name" in refusal("hub:")
    assert {"digits", "folder", "hub", "parquet"} <= set(source_names())
