"""A folder with one sub-folder of images for each class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nas.errors import FileError, UsageError
from nas.supernet.data.base import ImageSet, Source, register_source

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}


@register_source("folder")
def folder(path: str, side: int) -> Source:
    """Images of `path/CLASS/*`, cut to a square and resized to side x side, in RGB; `path/train` and `path/test` if there."""
    root = Path(path)
    if not path or not root.is_dir():
        raise UsageError(f"data folder {path!r} does not exist; write --data folder:PATH with one sub-folder a class")
    split = (root / "train").is_dir() and (root / "test").is_dir()
    classes = _classes(root / "train" if split else root)
    if split and (missing := set(classes) ^ set(_classes(root / "test"))):
        raise UsageError(
            f"class {min(missing)!r} has images in only one of {root / 'train'} and {root / 'test'}: both need images of the "
            "same classes; add some, or remove the class"
        )
    images = _read(root / "train" if split else root, classes, side)
    return Source(images, tuple(classes), _read(root / "test", classes, side) if split else None)


def _classes(root: Path) -> list[str]:
    """The sub-folders, of which each must hold images; hidden ones, which tools leave behind, are no classes."""
    entries = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))
    empty = [entry for entry in entries if not any(_images(entry))]
    known = ", ".join(sorted(SUFFIXES))
    if len(entries) - len(empty) < 2:
        raise UsageError(
            f"data folder {root} has {len(entries) - len(empty)} sub-folders with images, needs at least 2 (one a class) "
            f"of {known}"
        )
    if empty:
        raise UsageError(
            f"class {empty[0].name!r} is empty: {empty[0]} has no images ({known}); add some, or remove the folder"
        )
    return [entry.name for entry in entries]


def _images(entry: Path) -> Iterable[Path]:
    return (file for file in sorted(entry.rglob("*")) if file.suffix.lower() in SUFFIXES)


def _read(root: Path, classes: list[str], side: int) -> ImageSet:
    pixels, labels = [], []
    for label, name in enumerate(classes):
        for file in _images(root / name):
            pixels.append(square(file, side))
            labels.append(label)
    return ImageSet(torch.stack(pixels), torch.tensor(labels))


def square(file: Path, side: int) -> Tensor:
    """One image, cut to its central square and resized, as uint8 (3, side, side). Raises FileError for a damaged one."""
    try:
        with Image.open(file) as image:
            return to_tensor(image, side)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise FileError(f"image {file} is damaged or no image ({error}); repair or remove it") from error


def to_tensor(image: Image.Image, side: int) -> Tensor:
    """A PIL image as uint8 (3, side, side)."""
    fitted = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()
