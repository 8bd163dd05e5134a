"""Small pictures of two classes, folders of them, what a refused data source says, and how its splits must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import NasError, UsageError
from nas.supernet.data import DataSplits, ImageSet, load_data

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
