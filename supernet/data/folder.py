"""A folder with one sub-folder of images for each class."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from nas.errors import UsageError
from nas.supernet.data.base import ImageSet, Source, register_source
from nas.supernet.data.pixels import decoded

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
TRAIN, HELD = ("train", "training"), ("test", "testing", "val", "valid", "validation")
"""Names of folders, in any case, that hold the parts of a data set and no class; the first that is there is held back."""


@register_source("folder")
def folder(path: str, side: int) -> Source:
    """Images of `path/CLASS/*`, turned upright, cut to a square and resized to side x side, in RGB.

    Or of `path/train/CLASS/*`, and `path/test` or else `path/val` as the test set, which other systems lay out so.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise UsageError(f"data folder {path!r} does not exist; write --data folder:PATH with one sub-folder a class")
    train, held, remarks = _parts(root)
    classes = _classes(train)
    if held is not None and (missing := set(classes) ^ set(_classes(held))):
        raise UsageError(
            f"class {min(missing)!r} has images in only one of {train} and {held}: both need images of the "
            "same classes; add some, or remove the class"
        )
    images = _read(train, classes, side)
    return Source(images, tuple(classes), None if held is None else _read(held, classes, side), remarks=remarks)


def _parts(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Where the training images lie, and those that are held back for the test if they lie apart, with what to say of it.

    Raises UsageError for parts that do not make up a data set: they would pass for classes.
    """
    found = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir() and entry.name[0] not in "._"}
    train = next((found[name] for name in TRAIN if name in found), None)
    held = [found[name] for name in HELD if name in found]
    if train is not None and held:
        unused = [entry.name for entry in found.values() if entry not in (train, held[0])]
        remarks = [] if not unused else [f"data folder {root}: images in {', '.join(unused)} are not used"]
        if held[0].name.lower() not in ("test", "testing"):
            remarks.append(f"data folder {root} has no part named test: {held[0].name} is held back for the winner's test")
        return train, held[0], tuple(remarks)
    if len(found) > 1 and found.keys() <= {*TRAIN, *HELD}:
        raise UsageError(
            f"data folder {root} has the parts {', '.join(entry.name for entry in found.values())} and no classes: "
            "name the training images train, or give the folder of one part"
        )
    return root, None, ()


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
    files = [(file, label) for label, name in enumerate(classes) for file in _images(root / name)]
    opened = ((f"image {file}", partial(Image.open, file)) for file, _ in files)
    return ImageSet(decoded(opened, len(files), side), torch.tensor([label for _, label in files]))
