"""Batch-norm statistics of an extracted network, and its score."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace
from nas.supernet.calibration import calibrate, calibration_index, score
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet


@pytest.fixture(scope="module")
def supernet(miniature: SearchSpace) -> Supernet:
    return Supernet(miniature, 10, 1)


def with_norms(space: SearchSpace, *norms: str) -> Architecture:
    drawn = (space.sample(random.Random(seed)) for seed in range(100))
    return next(a for a in drawn if tuple(stage.norm for stage in a.stages) == norms)


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_calibration_changes_statistics_of_the_copy_alone(
    supernet: Supernet, miniature: SearchSpace, digits: DataSplits
) -> None:
    architecture = with_norms(miniature, "batch", "batch")
    network, untouched = (supernet.extract(architecture).eval() for _ in range(2))
    before = {key: tensor.clone() for key, tensor in supernet.state_dict().items()}
    calibrate(network, digits, architecture.resolution)
    assert norms_of(network)
    for mine, theirs in zip(norms_of(network), norms_of(untouched), strict=True):
        assert not torch.equal(mine.running_mean, theirs.running_mean)
        assert not torch.equal(mine.running_var, theirs.running_var)
        assert torch.equal(mine.weight, theirs.weight)
        assert mine.momentum == theirs.momentum
    fresh = supernet.extract(architecture).state_dict()
    assert all(torch.equal(fresh[key], tensor) for key, tensor in untouched.state_dict().items())
    assert all(torch.equal(tensor, before[key]) for key, tensor in supernet.state_dict().items())
    assert not any(module.training for module in network.modules())


def test_statistics_are_the_means_over_training_images_spread_over_the_classes(
    supernet: Supernet, miniature: SearchSpace, digits: DataSplits
) -> None:
    architecture = with_norms(miniature, "batch", "batch")
    network = supernet.extract(architecture).eval()
    calibrate(network, digits, architecture.resolution)
    images = digits.prepare(digits.train.take(calibration_index(len(digits.train))).images, architecture.resolution)
    stem = network.nodes["stem"]
    batches = stem.op(images).detach().split(128)
    expected = torch.stack([batch.flatten(0, 2).mean(0) for batch in batches]).mean(0)
    torch.testing.assert_close(norms_of(stem)[0].running_mean, expected, rtol=1e-4, atol=1e-5)
    once = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    calibrate(network, digits, architecture.resolution)
    assert all(torch.equal(once[key], tensor) for key, tensor in network.state_dict().items())


def test_calibration_sees_every_class_of_images_that_are_listed_class_by_class() -> None:
    labels = torch.arange(900) // 300
    assert torch.bincount(labels[calibration_index(900)]).min() >= 40
    assert calibration_index(3).tolist() == [0, 1, 2]


def test_networks_without_batch_norms_stay_as_they_are(supernet: Supernet, miniature: SearchSpace, digits: DataSplits) -> None:
    network = supernet.extract(with_norms(miniature, "layer", "layer"))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    calibrate(network, digits, 16)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_the_score_is_the_share_of_right_answers_and_the_mean_loss(few: Callable[[int], DataSplits]) -> None:
    class Oracle(nn.Module):
        """Right for every image but the first `wrong` of all it sees."""

        def __init__(self, labels: torch.Tensor, wrong: int) -> None:
            super().__init__()
            self.labels, self.seen = labels.clone(), 0
            self.labels[:wrong] = (self.labels[:wrong] + 1) % 10

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            assert x.shape[1:] == (1, 8, 8)
            self.seen += len(x)
            return nn.functional.one_hot(self.labels[self.seen - len(x) : self.seen], 10) * 20.0

    data = few(300)
    found = score(Oracle(data.train.labels, 60), data, data.train, 8)
    assert found.accuracy == pytest.approx(0.8)
    assert found.loss == pytest.approx(0.2 * 20, rel=1e-4)
