"""Batch augmentation: repeatable, of the right shapes and labels, and every name works alone and in a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from nas.errors import UnknownNameError
from nas.supernet.augmentation import STEPS, Augmentation
from nas.supernet.data import DataSplits

Few = Callable[[int], DataSplits]


@pytest.mark.parametrize("text", [*STEPS, "move,randaugment,mixup,erase", "cutmix,mixup", ""])
def test_images_keep_their_shape_and_range_and_labels_their_mass(few: Few, text: str) -> None:
    data = few(16)
    images, labels = Augmentation(text, data)(data.train.images, data.train.labels, 3)
    assert images.shape == data.train.images.shape
    assert float(images.min()) >= 0.0
    assert float(images.max()) <= 255.0 + 1e-3
    if labels.ndim == 2:
        torch.testing.assert_close(labels.sum(1), torch.ones(16))
        assert float(labels.min()) >= 0.0
    else:
        assert torch.equal(labels, data.train.labels)


@pytest.mark.parametrize("text", [*STEPS, "randaugment,cutmix"])
def test_draws_depend_on_the_seed_alone(few: Few, text: str) -> None:
    data = few(16)
    augment = Augmentation(text, data)
    state = torch.random.get_rng_state()
    first = augment(data.train.images, data.train.labels, 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(7)
    again = augment(data.train.images, data.train.labels, 5)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    others = [augment(data.train.images, data.train.labels, seed)[0] for seed in range(8)]
    assert any(not torch.equal(other.float(), first[0].float()) for other in others)


def test_mixup_blends_an_image_and_its_label_in_one_proportion(few: Few) -> None:
    data = few(16)
    plain = torch.zeros_like(data.train.images)
    plain[data.train.labels == data.train.labels[0]] = 200
    images, labels = Augmentation("mixup", data)(plain, data.train.labels, 1)
    torch.testing.assert_close(images[:, 0, 0, 0] / 200.0, labels[:, data.train.labels[0]], rtol=1e-4, atol=1e-4)


def test_cutmix_labels_follow_the_areas(few: Few) -> None:
    data = few(16)
    plain = torch.zeros_like(data.train.images)
    plain[data.train.labels == data.train.labels[0]] = 200
    images, labels = Augmentation("cutmix", data)(plain, data.train.labels, 1)
    torch.testing.assert_close(images.mean((1, 2, 3)) / 200.0, labels[:, data.train.labels[0]], rtol=0.0, atol=0.02)


@pytest.mark.parametrize("text", ["", "move"])  # kornia's steps ask for values, which `meta` has not
def test_images_are_augmented_and_prepared_on_their_own_device(few: Few, text: str) -> None:
    """On `meta`, where nothing can be computed from tensors of the CPU."""
    data, meta = dataclasses.replace(few(16), flip=True), torch.device("meta")
    part = data.train.to(meta)
    images, labels = Augmentation(text, data)(part.images, part.labels, 3)
    assert images.device == labels.device == data.prepare(images, 24).device == meta
    assert images.shape == part.images.shape


def test_an_unknown_name_is_answered_with_the_nearest(few: Few) -> None:
    with pytest.raises(UnknownNameError, match="mixup"):
        Augmentation("move,mixupp", few(16))


def test_images_are_shifted_or_mirrored_alone_where_that_is_asked_for(few: Few) -> None:
    data = few(16)
    images, labels = data.train.images, data.train.labels
    shifted, _ = Augmentation("shift", data)(images, labels, 0)
    flipped, _ = Augmentation("flip", data)(images, labels, 0)
    mirrored = [torch.equal(mine, whole.flip(2)) for mine, whole in zip(flipped, images, strict=True)]
    straight = [torch.equal(mine, whole) for mine, whole in zip(flipped, images, strict=True)]
    assert all(a or b for a, b in zip(mirrored, straight, strict=True))
    assert 0 < sum(mirrored) < 16
    assert not torch.equal(shifted, images)
    free = dataclasses.replace(data, flip=True)
    assert torch.equal(Augmentation("shift", free)(images, labels, 0)[0], shifted)


def test_crops_are_parts_of_their_images_of_the_size_and_shape_that_are_told(few: Few) -> None:
    """Images whose red tells the row and whose green tells the column: what a crop spans can be read off its corners."""
    data, side = few(64), 96
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    whole = torch.stack([rows, columns, rows]).repeat(64, 1, 1, 1).float()
    found, labels = Augmentation("crop", data)(whole, data.train.labels, 0)
    assert found.shape == whole.shape
    assert torch.equal(labels, data.train.labels)
    high, wide = ((found[:, part, -1, -1] - found[:, part, 0, 0] + 1.0) / side for part in (0, 1))
    areas, shapes = high * wide, wide / high
    assert 0.06 < float(areas.min()) < 0.3
    assert 0.7 < float(areas.max()) <= 1.02
    assert 0.7 < float(shapes.min()) < 0.95
    assert 1.05 < float(shapes.max()) < 1.4
    assert len(areas.unique()) > 32


def test_crops_keep_the_size_of_images_that_are_no_squares(few: Few) -> None:
    data = few(16)
    for high, wide in ((40, 64), (64, 40)):
        images, _ = Augmentation("crop", data)(torch.rand(16, 1, high, wide) * 255.0, data.train.labels, 0)
        assert images.shape == (16, 1, high, wide)
