"""Labelled images in memory, their splits, and the registry of sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UsageError
from nas.plugins import discover, lookup

_TEST_PART, _VALIDATION_PART = 0.2, 0.2
_SPLIT_SEED = 0
_COUNTED = 1024
"""So many images are counted at once."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (N, C, H, W) as uint8 and their class indices (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> ImageSet:
        """The rows of an index."""
        return ImageSet(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> ImageSet:
        """The same on another device."""
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Source:
    """What a data source yields: images with labels, class names, and a test set if it has one of its own.

    `flip` tells whether a mirrored image keeps its label, `remarks` what a user should know of the data, a line each.
    """

    images: ImageSet
    classes: tuple[str, ...]
    test: ImageSet | None = None
    flip: bool = True
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DataSplits:
    """Training, validation and test images of one source. The test split is for the winner alone.

    `remarks` are what a user should know of the data, a line each.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    mean: Tensor
    std: Tensor
    flip: bool
    remarks: tuple[str, ...] = ()

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.train.images.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal characters that change with any image, label or split."""
        hashed = blake2b(digest_size=8)
        for part in (self.train, self.validation, self.test):
            hashed.update(part.images.numpy().tobytes())
            hashed.update(part.labels.numpy().tobytes())
        return hashed.hexdigest()

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """uint8 (B, C, H, W) -> normalised float (B, C, resolution, resolution), on the device of the images."""
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        scaled = (images.float() / 255.0 - mean) / std
        if scaled.shape[-1] == resolution:
            return scaled
        return F.interpolate(scaled, size=(resolution, resolution), mode="bilinear", antialias=True)

    def augment(self, images: Tensor, generator: torch.Generator, *, shift: bool = True, flip: bool | None = None) -> Tensor:
        """Each image moved by up to an eighth of its side, edges repeated, and mirrored half of the time.

        Not moved without `shift`; `flip` says whether it is mirrored, by default where a mirrored image keeps its label. What
        is drawn, by a generator of the CPU, is the same on every device.
        """
        count, _, height, width = images.shape
        rows, columns = (
            _moved(count, length, generator) if shift else torch.arange(length).expand(count, length)
            for length in (height, width)
        )
        if self.flip if flip is None else flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        places = torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
        return images.permute(0, 2, 3, 1)[tuple(place.to(images.device) for place in places)].permute(0, 3, 1, 2)


def _moved(count: int, length: int, generator: torch.Generator) -> Tensor:
    reach = max(length // 8, 1)
    by = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    return (torch.arange(length)[None] + by).clamp(0, length - 1)


Loader = Callable[[str, int], Source]
_SOURCES: dict[str, Loader] = {}


def register_source(name: str) -> Callable[[Loader], Loader]:
    """Announce a function `(path, side) -> Source` as `--data name:path`; images are side x side pixels."""

    def announce(loader: Loader) -> Loader:
        _SOURCES[name] = loader
        return loader

    return announce


@cache
def _discover() -> None:
    discover("nas.supernet.data", "nas.data")


def source_names() -> list[str]:
    """The registered sources."""
    _discover()
    return sorted(_SOURCES)


def load_data(spec: str, side: int, train_images: int | None = None, validation_images: int | None = None) -> DataSplits:
    """The splits of `digits`, `folder:PATH`, `parquet:PATH` or `hub:NAME`, at side x side pixels.

    Without a test set of its own a source gives a fifth of its images to the test, and a fifth of the rest ranks the
    candidates; both splits are stratified and the same for every seed, and so are the parts of them that are kept where
    `train_images` or `validation_images` are fewer. Raises UnknownNameError, UsageError or FileError.
    """
    _discover()
    name, _, path = spec.partition(":")
    source = lookup("data source", name, _SOURCES)(path, side)
    rest, test = (source.images, source.test) if source.test is not None else _split(source.images, _TEST_PART, spec)
    train, validation = _split(rest, _VALIDATION_PART, spec)
    train, validation = _part(train, train_images, spec), _part(validation, validation_images, spec)
    mean, std = _moments(train.images)
    return DataSplits(spec, source.classes, train, validation, test, mean, std, source.flip, source.remarks)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel (C, 1, 1) of uint8 images, from 0 to 1, without a copy of all as floats."""
    shades = torch.arange(256, dtype=torch.float64) / 255.0
    counts = [
        sum(torch.bincount(part[:, channel].flatten(), minlength=256) for part in images.split(_COUNTED))
        for channel in range(images.shape[1])
    ]
    shares = torch.stack([torch.as_tensor(count) for count in counts]).double() / (images.numel() / images.shape[1])
    mean = (shares * shades).sum(1)
    std = (shares * (shades - mean[:, None]).square()).sum(1).sqrt()
    return mean.float()[:, None, None], std.float()[:, None, None].clamp_min(1e-3)


def _part(images: ImageSet, count: int | None, spec: str) -> ImageSet:
    """So many of the images, stratified; all of them where they are fewer. Raises UsageError for fewer than one a class."""
    if count is None or count >= len(images):
        return images
    classes = len(images.labels.unique())
    if count < classes:
        raise UsageError(f"{count} images of data {spec!r} cannot show its {classes} classes: take at least {classes}")
    if len(images) - count < classes:  # too few are left over to be drawn evenly from the classes
        kept = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SPLIT_SEED))[:count].tolist()
    else:
        kept, _ = train_test_split(range(len(images)), train_size=count, random_state=_SPLIT_SEED, stratify=images.labels)
    return images.take(torch.tensor(sorted(kept)))


def _split(images: ImageSet, part: float, spec: str) -> tuple[ImageSet, ImageSet]:
    counts = torch.bincount(images.labels)
    rare = int(counts[counts > 0].min()) if len(images) else 0
    if rare < 4 or len(counts[counts > 0]) < 2:
        raise UsageError(f"data {spec!r} needs at least two classes with 5 images each; the smallest class has {rare}")
    if round(part * len(images)) < len(counts[counts > 0]):
        raise UsageError(
            f"{part:.0%} of the {len(images)} images of data {spec!r} are held back, too few to show its "
            f"{len(counts[counts > 0])} classes: give at least {math.ceil(1.5 / part)} images of each"
        )
    kept, held = train_test_split(range(len(images)), test_size=part, random_state=_SPLIT_SEED, stratify=images.labels)
    return images.take(torch.tensor(sorted(kept))), images.take(torch.tensor(sorted(held)))
