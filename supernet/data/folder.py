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
    images = _read(root / "train" if split else root, classes, side)
    return Source(images, tuple(classes), _read(root / "test", classes, side) if split else None)


def _classes(root: Path) -> list[str]:
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and any(_images(entry)))
    if len(found) < 2:
        raise UsageError(
            f"data folder {root} has {len(found)} sub-folders with images, needs at least 2 (one a class) "
            f"of {', '.join(sorted(SUFFIXES))}"
        )
    return found


def _images(entry: Path) -> Iterable[Path]:
    return (file for file in sorted(entry.rglob("*")) if file.suffix.lower() in SUFFIXES)


def _read(root: Path, classes: list[str], side: int) -> ImageSet:
    pixels, labels = [], []
    for label, name in enumerate(classes):
        for file in _images(root / name) if (root / name).is_dir() else ():
            pixels.append(square(file, side))
            labels.append(label)
    if not pixels:
        raise UsageError(f"data folder {root} has no images of the classes {', '.join(classes)}")
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
