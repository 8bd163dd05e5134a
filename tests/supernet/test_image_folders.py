"""Folders of images: parts, classes, and images of any kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import SIDE, assert_splits_are_sound, make_folder, picture, refusal
from PIL import Image

from nas.errors import FileError
from nas.supernet.data import load_data
from nas.supernet.data.pixels import to_tensor


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
