"""A few steps of training before a network is scored: the same images for all, the same weights every time, nothing else."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.errors import NasError, UsageError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.space import SearchSpace
from nas.supernet import adaptation as module
from nas.supernet.adaptation import Adaptation, adapt, mix
from nas.supernet.augmentation import Augmentation
from nas.supernet.calibration import score
from nas.supernet.data import DataSplits
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.schedule import adamw, drawing_seed, warm_cosine
from nas.supernet.supernet import Supernet

Few = Callable[[int], DataSplits]
SHORT = Adaptation(steps=5, batch=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def supernet(miniature: SearchSpace) -> Supernet:
    return Supernet(miniature, 10, 1).eval()


def member(space: SearchSpace, seed: int, side: int = 16) -> Architecture:
    drawn = (space.sample(random.Random(number)) for number in range(seed, seed + 100))
    return next(architecture for architecture in drawn if architecture.resolution == side)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def shown(network: nn.Module) -> Iterator[Tensor]:
    """The images that a network was shown, as a list that fills."""
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen  # type: ignore[return-value]


def test_no_steps_change_nothing(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    network = supernet.extract(member(miniature, 0))
    before = state(network)
    adapt(network, few(64), Adaptation(), 16)
    assert equal(before, state(network))
    assert Adaptation(learning_rate=0.5).identity() == Adaptation().identity() == {}


def test_the_copy_learns_and_the_supernet_does_not(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    data, architecture = few(128), member(miniature, 0)
    before = state(supernet)
    network = supernet.extract(architecture)
    worse = score(network, data, data.train, 16).loss
    adapt(network, data, Adaptation(steps=40, batch=32, learning_rate=2e-2, augment="", label_smoothing=0.0), 16)
    network.train()  # with statistics of the batch: running ones mean nothing before they are calibrated
    with torch.no_grad():
        better = nn.functional.cross_entropy(network(data.prepare(data.train.images, 16)), data.train.labels)
    assert float(better) < 0.8 * worse
    assert equal(before, state(supernet))


def test_the_same_copy_gets_the_same_weights_whatever_was_drawn_before(
    supernet: Supernet, miniature: SearchSpace, few: Few, random_state_is_kept: None
) -> None:
    found = []
    for seed in (1, 2):
        network = supernet.extract(member(miniature, 3))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapt(network, few(64), SHORT, 16)
        assert not any(part.training for part in network.modules())
        found.append(state(network))
    assert equal(*found)
    network = supernet.extract(member(miniature, 3))
    adapt(network, few(64), SHORT, 16)
    assert equal(state(network), found[0])


def test_what_a_network_draws_while_it_learns_is_drawn_alike_too(few: Few) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 10))
        torch.manual_seed(seed)
        kept = torch.get_rng_state()
        adapt(network, few(64), SHORT, 16)
        assert torch.equal(torch.get_rng_state(), kept)
        found.append(state(network))
    assert equal(*found)


def test_all_networks_see_the_same_images_in_the_same_order(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    networks = [supernet.extract(member(miniature, seed)) for seed in (0, 20)]
    assert networks[0].architecture.digest != networks[1].architecture.digest
    seen = [shown(network) for network in networks]
    for network in networks:
        adapt(network, few(50), SHORT, 16)
    assert len(seen[0]) == len(seen[1]) == SHORT.steps
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*seen, strict=True))
    assert len({float(images.sum()) for images in seen[0]}) == SHORT.steps, "each step has images of its own"


def test_another_seed_shows_other_images(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    seen = []
    for seed in (0, 1):
        network = supernet.extract(member(miniature, 0))
        seen.append(shown(network))
        adapt(network, few(64), dataclasses.replace(SHORT, seed=seed), 16)
    assert not any(torch.equal(mine, theirs) for mine, theirs in zip(*seen, strict=True))


@settings(deadline=None, max_examples=40)
@given(images=st.integers(1, 200), batch=st.integers(1, 64), steps=st.integers(0, 20))
def test_a_pass_shows_whole_batches_of_images_no_one_twice(images: int, batch: int, steps: int) -> None:
    found = list(module._batches(images, Adaptation(steps=steps, batch=batch)))
    assert len(found) == steps
    assert all(len(index) == min(batch, images) for index in found)
    a_pass = max(1, images // batch)
    for start in range(0, steps, a_pass):
        seen = torch.cat(found[start : start + a_pass])
        assert len(seen.unique()) == len(seen)
        assert seen.max() < images


def test_weights_are_shrunk_and_filled_up_with_fresh_ones(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    architecture, half = member(miniature, 2), dataclasses.replace(SHORT, keep=0.6, seed=3)
    network, before = supernet.extract(architecture), supernet.extract(architecture)
    state = torch.get_rng_state()
    mix(network, few(10), half)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    fresh = build(architecture, 10, 1)
    for (name, mine), old, new in zip(network.named_parameters(), before.parameters(), fresh.parameters(), strict=True):
        share = 0.8 if mine.dim() > 1 else 0.4
        torch.testing.assert_close(mine, 0.6 * old + share * new, msg=name)


def test_all_is_kept_unless_a_share_is_named_and_there_are_steps(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    for adaptation in (SHORT, Adaptation(steps=0, keep=0.5)):
        network, before = (supernet.extract(member(miniature, 2)) for _ in range(2))
        mix(network, few(10), adaptation)
        assert all(torch.equal(mine, old) for mine, old in zip(network.parameters(), before.parameters(), strict=True))
    assert "keep" not in SHORT.identity()
    assert dataclasses.replace(SHORT, keep=0.5).identity()["keep"] == 0.5


def test_nothing_kept_is_a_fresh_network(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    network = supernet.extract(member(miniature, 2))
    mix(network, few(10), dataclasses.replace(SHORT, keep=0.0))
    torch.manual_seed(SHORT.seed)
    fresh = build(member(miniature, 2), 10, 1)
    assert all(torch.equal(mine, new) for mine, new in zip(network.parameters(), fresh.parameters(), strict=True))


def test_the_steps_are_those_of_the_schedule_and_the_recipe(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    """Written out with PyTorch alone."""
    data, architecture = few(64), member(miniature, 5)
    recipe = TrainingRecipe(batch=16, warmup=0.4, label_smoothing=0.2, weight_decay=0.3, augment="move", seed=4)
    adaptation = Adaptation.of(recipe, 3, 2e-3)
    network, expected = (supernet.extract(architecture) for _ in range(2))
    adapt(network, data, adaptation, 16)
    optimizer = adamw(expected.train(), 2e-3, 0.3, (0.9, 0.999))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(drawing_seed(4, 0)))
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = warm_cosine(2e-3, 0.4, step, 3)
        batch = data.train.take(order[16 * step : 16 * step + 16])
        images, labels = Augmentation("move", data)(batch.images, batch.labels, drawing_seed(4, step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(expected(data.prepare(images, 16)), labels, label_smoothing=0.2).backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 5.0, foreach=True)
        optimizer.step()
    for (name, mine), theirs in zip(network.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_loss_that_is_no_number_ends_in_one_line(supernet: Supernet, miniature: SearchSpace, few: Few) -> None:
    network = supernet.extract(member(miniature, 0))
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(NasError, match="the loss is nan at step 0: lower the learning rate"):
        adapt(network, few(32), SHORT, 16)


@pytest.mark.parametrize(("field", "value"), [("steps", -1), ("learning_rate", 0.0), ("learning_rate", float("nan"))])
def test_numbers_outside_their_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{'0 steps or more' if field == 'steps' else field}.*got {value}"):
        Adaptation(**{field: value})
