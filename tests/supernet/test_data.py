"""Data sources, their splits, and what is done to images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pictures import SIDE, assert_splits_are_sound, refusal
from torch import Tensor

from nas.errors import UnknownNameError
from nas.supernet.data import DataSplits, ImageSet, load_data, source_names


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


def test_mean_and_deviation_are_those_of_all_pixels(digits: DataSplits) -> None:
    pixels = digits.train.images.double() / 255.0
    torch.testing.assert_close(digits.mean.double(), pixels.mean((0, 2, 3))[:, None, None])
    torch.testing.assert_close(digits.std.double(), pixels.std((0, 2, 3), correction=0)[:, None, None])


def test_unknown_sources_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown data source 'digit'\. Did you mean 'digits'\?"):
        load_data("digit", SIDE)
    assert "takes no path" in refusal("digits:somewhere")
    assert "needs a name" in refusal("hub:")
    assert {"digits", "folder", "hub", "parquet"} <= set(source_names())
