"""Data-parallel training: two workers give the weights of one, and one line where the launch is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import multiprocessing
from two_workers import work

from nas.errors import UsageError
from nas.results import supernet_run
from nas.results.config import SearchConfig
from nas.search_spaces.space import SearchSpace
from nas.supernet.data import DataSplits
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, Lesson, StepPlan, training_strategy
from nas.supernet.supernet import Supernet
from nas.supernet.training import TrainingHistory, train
from nas.supernet.workers import Alone, launched

Few = Callable[[int], DataSplits]


@pytest.fixture(scope="module")
def shared(miniature: SearchSpace) -> Supernet:
    return Supernet(miniature, 10, 1).train()


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


@settings(max_examples=8, deadline=None)
@given(seeds=st.lists(st.integers(0, 999), min_size=1, max_size=4))
def test_the_touched_blocks_are_the_smallest_that_hold_every_network(shared: Supernet, seeds: list[int]) -> None:
    networks = [shared.space.sample(random.Random(seed)) for seed in seeds]
    touched = shared.touched(networks)
    used = [part for network in networks for part in shared.cuts(network).values()]
    assert touched.keys() == {key for key, _ in used}
    for key, block in touched.items():
        for dimension, cut in enumerate(block):
            own = [part.slices[dimension] for name, part in used if name == key]
            assert (cut.start, cut.stop) == (min(one.start for one in own), max(one.stop for one in own))


@pytest.mark.parametrize("strategy", ["sandwich", "conflict"])
def test_twins_who_see_each_image_once_have_the_gradients_of_one_who_does(shared: Supernet, few: Few, strategy: str) -> None:
    """Bit for bit: each has half of every gradient, all go in one message, and that of a twin doubles them."""

    class Twin(Alone):
        size, messages = 2, 0

        def sum(self, tensors: list[torch.Tensor]) -> None:
            self.messages += 1
            for tensor in tensors:
                tensor.mul_(2)

    data, found, twin = few(16), [], Twin()
    plan = training_strategy(strategy).plan(Draw(shared.space, 0, 3, 10, 3))
    for workers, times in ((Alone(), 1), (twin, 2)):
        shared.zero_grad()
        images, labels = (part.repeat_interleave(times, 0) for part in (data.train.images, data.train.labels))
        StepRunner(shared, data, StepOptions(workers=workers)).backward(plan, images, labels)
        found.append({key: tensor.grad for key, tensor in shared.store.items() if tensor.grad is not None})
    assert twin.messages == 1
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(gradient, found[1][key]) for key, gradient in found[0].items())


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
