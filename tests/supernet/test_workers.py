"""Data-parallel training: two workers give the weights of one, and one line where the launch is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import multiprocessing
from two_workers import work

from nas.errors import UsageError
from nas.results import supernet_run
from nas.results.config import SearchConfig
from nas.search_spaces.space import SearchSpace
from nas.supernet.data import DataSplits
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Lesson, StepPlan
from nas.supernet.supernet import Supernet
from nas.supernet.training import TrainingHistory, train
from nas.supernet.workers import Alone, launched

Few = Callable[[int], DataSplits]


@pytest.mark.parametrize("strategy", ["conflict", "split_batch"])
def test_two_workers_give_the_weights_of_one(miniature: SearchSpace, few: Few, tmp_path: Path, strategy: str) -> None:
    """Where no norm looks at the batch: sums are rounded in another order, which Adam's first steps blow up."""
    space = dataclasses.replace(miniature, norms=("layer",))
    recipe = TrainingRecipe(strategy=strategy, epochs=2, batch=16, random_architectures=1, augment="move,mixup", warmup=0.5)
    alone = Supernet(space, 10, 1)
    train(alone, few(64), recipe, tmp_path / "one")
    multiprocessing.spawn(work, (str(tmp_path), space, few(64), recipe), nprocs=2)
    weights = [torch.load(tmp_path / f"weights-{rank}", weights_only=True) for rank in range(2)]
    for name, tensor in alone.state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name]), name
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-3, atol=2e-4)


def test_without_a_launcher_there_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched() as workers:
        assert isinstance(workers, Alone)
        assert (workers.rank, workers.size) == (0, 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_worker_writes_the_times_of_the_phases(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """As under Ray Train, where each worker opens the run by itself."""

    class One(Alone):
        size = 2

    worker = One()
    worker.rank = rank
    monkeypatch.setattr(supernet_run, "launched", lambda: contextlib.nullcontext(worker))
    monkeypatch.setattr(supernet_run, "train", lambda *_, **__: TrainingHistory([]))
    monkeypatch.setattr(supernet_run.SupernetRun, "data", few(16))
    run = supernet_run.SupernetRun(tmp_path, SearchConfig(space=miniature.to_mapping()))
    run.train()
    assert run.folder.phases.exists() == (rank == 0)


def test_half_a_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"RANK.*torchrun"), launched():
        pass


@pytest.mark.parametrize(("strategy", "least"), [("split_batch", 24), ("sandwich", 8)])
def test_a_batch_that_cannot_be_shared_is_refused(
    miniature: SearchSpace, few: Few, tmp_path: Path, strategy: str, least: int
) -> None:
    """Networks need images of their own only where they share a batch out."""

    class Many(Alone):
        size = 8

    recipe = TrainingRecipe(batch=least - 1, random_architectures=1, strategy=strategy)
    with pytest.raises(UsageError, match=f"raise the batch to at least {least}"):
        train(Supernet(miniature, 10, 1), few(64), recipe, tmp_path / "c", workers=Many())


def test_each_worker_asks_a_teacher_from_outside_about_its_own_images_once(miniature: SearchSpace, few: Few) -> None:
    class Second(Alone):
        rank, size = 1, 2

    data, seen = few(16), []

    def teacher(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.full((len(images), 10), 0.1)

    lesson = Lesson(architecture=miniature.sample(random.Random(0)))
    runner = StepRunner(Supernet(miniature, 10, 1).train(), data, StepOptions(teacher=teacher, workers=Second()))
    runner.backward(StepPlan((lesson, lesson)), data.train.images, data.train.labels)
    (asked,) = seen
    assert torch.equal(asked, data.train.images[1::2])
