"""Batch augmentation on the device of the images: what training images go through, by name and in order.

`move`, `shift` and `flip` are the project's own; the others are kornia's. Draws depend on a seed alone, so that a resumed
training and every worker of a parallel one see the same images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UnknownNameError, UsageError
from nas.supernet.data import DataSplits

Labelled = tuple[Tensor, Tensor]
"""Images (B, C, H, W) from 0 to 255, and labels: class indices (B,) or probabilities (B, classes)."""
MAGNITUDE, OPERATIONS = 9, 2
"""RandAugment's M and N of Cubuk et al. 2020, arXiv:1909.13719, for ImageNet."""


class Augmentation:
    """The named steps of `text`, `move,randaugment,mixup` say; "" leaves images as they are.

    Raises UnknownNameError for an unknown step, UsageError for one that knows no images of so many channels.
    """

    def __init__(self, text: str, data: DataSplits) -> None:
        self.data = data
        self.names = [name.strip() for name in text.split(",") if name.strip()]
        for name in self.names:
            if name not in STEPS:
                raise UnknownNameError("augmentation", name, STEPS)
        if "randaugment" in self.names and data.in_channels not in (1, 3):
            raise UsageError(f"randaugment needs images of 1 or 3 channels, these have {data.in_channels}: leave it away")

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> Labelled:
        """Augmented images, and labels that are probabilities where images were mixed, on the device of the images.

        The random state of no device changes.
        """
        kind = images.device.type
        accelerated = kind not in ("cpu", "meta")
        with torch.random.fork_rng([images.device] if accelerated else [], device_type=kind if accelerated else "cuda"):
            torch.manual_seed(seed)
            for name in self.names:
                images, labels = STEPS[name](images, labels, self.data)
        return images, labels


def move(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """Each image moved by up to an eighth of its side, and mirrored half of the time where that keeps its label."""
    return data.augment(images, torch.default_generator), labels


def shift(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """Each image moved by up to an eighth of its side, never mirrored: for letters, signs, hands."""
    return data.augment(images, torch.default_generator, flip=False), labels


def flip(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """Each image mirrored half of the time, whatever it shows."""
    return data.augment(images, torch.default_generator, shift=False, flip=True), labels


def crop(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """A random part of each image, 8 to 100 % of its area and 3/4 to 4/3 as wide as high, stretched to the image's size
    (Szegedy et al. 2015, arXiv:1409.4842, section 6): for photographs of 100 pixels and more, not for small images.
    """
    side = (int(images.shape[2]), int(images.shape[3]))
    return _kornia("crop", side)(images.float() / 255.0).clamp(0.0, 1.0) * 255.0, labels


def randaugment(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """Two random operations of colour and geometry, the same for a batch; grey images are seen as coloured ones."""
    channels = images.shape[1]
    coloured = (images.float() / 255.0).expand(-1, 3, -1, -1)
    changed = _kornia("randaugment")(coloured).clamp(0.0, 1.0) * 255.0
    return changed if channels == 3 else changed.mean(1, keepdim=True), labels


def erase(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """A random rectangle of a quarter of the images blackened (Zhong et al. 2020, arXiv:1708.04896)."""
    return _kornia("erase")(images.float() / 255.0) * 255.0, labels


def mixup(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """Each image blended with another, its label in the same proportion (Zhang et al. 2018, arXiv:1710.09412)."""
    return _mixed("mixup", images, labels, data)


def cutmix(images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    """A rectangle of each image from another, its label in the proportion of the areas (Yun et al. 2019, arXiv:1905.04899)."""
    return _mixed("cutmix", images, labels, data)


STEPS: dict[str, Callable[[Tensor, Tensor, DataSplits], Labelled]] = {
    "move": move,
    "shift": shift,
    "flip": flip,
    "crop": crop,
    "randaugment": randaugment,
    "erase": erase,
    "mixup": mixup,
    "cutmix": cutmix,
}


def _mixed(name: str, images: Tensor, labels: Tensor, data: DataSplits) -> Labelled:
    classes = len(data.classes)
    before = labels if labels.ndim == 2 else F.one_hot(labels, classes).float()
    mixed, triples = _kornia(name)(images.float(), torch.arange(len(images), device=images.device))
    own, other, share = triples.reshape(-1, 3).unbind(1)
    # The library gives the other image's share for mixup, the image's own for cutmix.
    part = (share if name == "mixup" else 1.0 - share)[:, None].to(before.dtype)
    return mixed, (1.0 - part) * before[own.long()] + part * before[other.long()]


@cache
def _kornia(name: str, size: tuple[int, int] = (0, 0)) -> Any:
    """The library's module of that name, for images of that size where it asks; imported late, as it takes seconds."""
    import kornia.augmentation as library
    from kornia.augmentation.auto import RandAugment

    keys = ["input", "class"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        makers: dict[str, Callable[[], Any]] = {
            "crop": lambda: library.RandomResizedCrop(size),
            "randaugment": lambda: RandAugment(OPERATIONS, MAGNITUDE),
            "erase": lambda: library.RandomErasing(p=0.25),
            "mixup": lambda: library.RandomMixUpV2(data_keys=keys),
            "cutmix": lambda: library.RandomCutMixV2(data_keys=keys, use_correct_lambda=True),
        }
        return makers[name]()
