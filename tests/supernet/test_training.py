"""Training of the supernet and of one network: it learns, it repeats itself, and it resumes bit for bit."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import Killed, equal, killer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas.errors import FileError, NasError, UsageError
from nas.search_spaces.space import SearchSpace
from nas.supernet.augmentation import Augmentation
from nas.supernet.checkpoint import load_checkpoint, read_progress, save_checkpoint
from nas.supernet.data import DataSplits
from nas.supernet.finetune import FinetuneRecipe, finetune
from nas.supernet.guard import DivergenceGuard
from nas.supernet.schedule import warm_cosine
from nas.supernet.step import StepRunner
from nas.supernet.supernet import Supernet
from nas.supernet.training import TrainingHistory, TrainingRecipe, train, trained_epochs

Few = Callable[[int], DataSplits]
RECIPE = TrainingRecipe(epochs=3, batch=16, learning_rate=3e-3, random_architectures=1)
FINETUNE = FinetuneRecipe(epochs=3, batch=16, learning_rate=1e-3)


def rows_without_times(history: TrainingHistory) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.endswith("seconds")} for row in history.rows]


def trained(
    space: SearchSpace, data: DataSplits, path: Path, recipe: TrainingRecipe = RECIPE
) -> tuple[Supernet, TrainingHistory]:
    supernet = Supernet(space, 10, 1)
    return supernet, train(supernet, data, recipe, path)


@pytest.fixture(scope="module")
def whole(miniature: SearchSpace, few: Few, tmp_path_factory: pytest.TempPathFactory) -> tuple[Supernet, TrainingHistory, Path]:
    """An uninterrupted training of three epochs of four steps."""
    path = tmp_path_factory.mktemp("whole") / "supernet.safetensors"
    return *trained(miniature, few(64), path), path


def test_the_loss_falls_and_the_accuracy_rises(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    recipe = TrainingRecipe(epochs=4, batch=32, random_architectures=1, learning_rate=1e-2)
    _, history = trained(miniature, few(1150), tmp_path / "checkpoint", recipe)
    losses = [row["loss"] for row in history.rows]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]
    assert history.rows[-1]["largest"] > 0.25
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]


def test_images_go_to_the_device_of_the_store_before_they_are_augmented(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    augment = Augmentation.__call__

    def watched(self: Augmentation, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        seen.append((images.device.type, labels.device.type))
        return augment(self, images, labels, seed)

    monkeypatch.setattr(Augmentation, "__call__", watched)
    monkeypatch.setattr(StepRunner, "backward", lambda self, plan, images, *_, **__: killer(0)(0, 1, str(images.device)))
    monkeypatch.setattr("nas.supernet.training.adamw", lambda module, *_: torch.optim.AdamW(module.parameters()))
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1).to("meta"), few(16), RECIPE, tmp_path / "c")
    assert seen == [("meta", "meta")]


def test_training_is_deterministic(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path], tmp_path: Path
) -> None:
    torch.manual_seed(99)
    random.seed(99)
    again, history = trained(miniature, few(64), tmp_path / "checkpoint")
    assert equal(again, whole[0])
    assert rows_without_times(history) == rows_without_times(whole[1])


@pytest.mark.parametrize("at", [2, 5, 8, 12])
def test_a_killed_training_resumes_bit_for_bit(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path], tmp_path: Path, at: int
) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1), few(64), RECIPE, path, killer(at))
    assert trained_epochs(path) == (at - 1) // 4
    resumed = Supernet(miniature, 10, 1, seed=123 if at > 4 else 0)
    history = train(resumed, few(64), RECIPE, path)
    assert equal(resumed, whole[0])
    assert rows_without_times(history) == rows_without_times(whole[1])
    assert list(tmp_path.iterdir()) == [path]


def test_a_training_goes_on_with_epochs_as_long_as_those_it_began_with(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight workers leave out a rest that one worker would take."""
    data, recipe = few(40), dataclasses.replace(RECIPE, batch=16)
    with monkeypatch.context() as many:
        many.setattr("nas.supernet.training._steps_an_epoch", lambda *_: 2)
        wanted, history = trained(miniature, data, tmp_path / "whole", recipe)
        with pytest.raises(Killed):
            train(Supernet(miniature, 10, 1), data, recipe, tmp_path / "killed", killer(3))
    resumed = Supernet(miniature, 10, 1)
    assert rows_without_times(train(resumed, data, recipe, tmp_path / "killed")) == rows_without_times(history)
    assert equal(resumed, wanted)
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1), data, recipe, tmp_path / "longer", killer(4))
    monkeypatch.setattr("nas.supernet.training._steps_an_epoch", lambda *_: 2)
    with pytest.raises(UsageError, match="began with 3 steps an epoch, of which the last is too small for 1 workers"):
        train(Supernet(miniature, 10, 1), data, recipe, tmp_path / "longer")


def test_a_finished_training_is_only_read(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path]
) -> None:
    written = whole[2].stat().st_mtime_ns
    again = Supernet(miniature, 10, 1, seed=5)
    assert train(again, few(64), RECIPE, whole[2]).rows == whole[1].rows
    assert equal(again, whole[0])
    assert whole[2].stat().st_mtime_ns == written


def test_another_seed_trains_another_supernet(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path], tmp_path: Path
) -> None:
    other, _ = trained(miniature, few(64), tmp_path / "checkpoint", dataclasses.replace(RECIPE, seed=1))
    assert not equal(other, whole[0])


def test_training_moves_no_running_statistics(whole: tuple[Supernet, TrainingHistory, Path], miniature: SearchSpace) -> None:
    supernet = whole[0]
    architecture = next(a for a in map(miniature.sample, map(random.Random, range(9))) if a.stages[0].norm == "batch")
    buffers = {name: tensor for name, tensor in supernet.extract(architecture).named_buffers() if "running" in name}
    assert buffers
    for name, tensor in buffers.items():
        assert torch.equal(tensor, torch.full_like(tensor, float("running_var" in name))), name


def damaged(path: Path, whole: Path, how: str) -> Path:
    content = whole.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no checkpoint")
    elif how == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
    elif how == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "foreign", "folder"])
def test_a_damaged_checkpoint_is_refused_and_left_alone(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path], tmp_path: Path, how: str
) -> None:
    path = damaged(tmp_path / "checkpoint", whole[2], how)
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(FileError, match=r"is damaged|is no checkpoint of nas") as caught:
        train(Supernet(miniature, 10, 1), few(64), RECIPE, path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileError):
        trained_epochs(path)
    assert content is None or path.read_bytes() == content


def test_a_checkpoint_of_another_version_is_refused(whole: tuple[Supernet, TrainingHistory, Path], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_file(load_file(whole[2]), path, metadata={"format": "nas-checkpoint", "version": "99", "identity": ""})
    with pytest.raises(FileError, match="has version 99, this program writes 2"):
        read_progress(path)


@pytest.mark.parametrize("change", ["recipe", "data", "space", "classes"])
def test_the_checkpoint_of_another_training_is_refused(
    miniature: SearchSpace, few: Few, whole: tuple[Supernet, TrainingHistory, Path], change: str
) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-4) if change == "recipe" else RECIPE
    data = few(80) if change == "data" else few(64)
    space = dataclasses.replace(miniature, name="other", stems=("conv",)) if change == "space" else miniature
    with pytest.raises(FileError, match="belongs to another space, seed, data set or training recipe"):
        train(Supernet(space, 11 if change == "classes" else 10, 1), data, recipe, whole[2])


def test_a_loss_that_is_not_finite_stops_the_training(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    supernet = Supernet(miniature, 10, 1)
    with torch.no_grad():
        supernet.store["head/linear/bias"].fill_(float("nan"))
    with pytest.raises(
        NasError, match=r"the loss is nan at step 0, before the first checkpoint: lower the learning rate \(now 0\.003"
    ):
        train(supernet, few(64), RECIPE, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_diverging_training_goes_back_to_the_last_checkpoint_and_on(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = StepRunner.backward, []

    def backward(runner: StepRunner, *arguments: Any, **options: Any) -> float:
        calls.append(len(calls))
        return float("inf") if len(calls) in (7, 9) else real(runner, *arguments, **options)

    monkeypatch.setattr(StepRunner, "backward", backward)
    supernet = Supernet(miniature, 10, 1)
    history = train(supernet, few(64), RECIPE, tmp_path / "checkpoint")
    assert [(row["step"], row["to"]) for row in history.rollbacks] == [(6.0, 4.0), (5.0, 4.0)]
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert len(calls) == 12 + 3 + 2
    assert all(torch.isfinite(tensor).all() for tensor in supernet.parameters())
    assert read_progress(tmp_path / "checkpoint")["guard"]["rollbacks"] == history.rollbacks


def test_a_training_that_diverges_again_and_again_is_given_up(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = StepRunner.backward, []

    def backward(runner: StepRunner, *arguments: Any, **options: Any) -> float:
        calls.append(len(calls))
        return float("nan") if len(calls) > 6 else real(runner, *arguments, **options)

    monkeypatch.setattr(StepRunner, "backward", backward)
    with pytest.raises(NasError, match="at step 4 after 3 returns to a checkpoint: lower the learning rate"):
        train(Supernet(miniature, 10, 1), few(64), RECIPE, tmp_path / "checkpoint")
    assert trained_epochs(tmp_path / "checkpoint") == 1


def test_gradients_that_are_not_finite_never_reach_the_weights(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = StepRunner.backward, []

    def backward(runner: StepRunner, *arguments: Any, **options: Any) -> float:
        calls.append(len(calls))
        loss = real(runner, *arguments, **options)
        if len(calls) == 8:
            runner.supernet.store["head/linear/bias"].grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(StepRunner, "backward", backward)
    supernet = Supernet(miniature, 10, 1)
    history = train(supernet, few(64), RECIPE, tmp_path / "checkpoint")
    assert [(row["step"], row["to"]) for row in history.rollbacks] == [(7.0, 4.0)]
    assert all(torch.isfinite(tensor).all() for tensor in supernet.parameters())


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 12.0])
def test_a_loss_is_lost_when_it_jumps_above_guessing(loss: float) -> None:
    guard = DivergenceGuard(10)
    assert not any(guard.diverged(value) for value in (2.3, 2.2, 4.4, 2.0))
    assert guard.diverged(loss)
    assert guard.mean < 2.5


def test_averaged_weights_follow_and_are_kept_in_the_end(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, ema=0.8)
    plain, averaged = Supernet(miniature, 10, 1), Supernet(miniature, 10, 1)
    train(plain, few(64), RECIPE, tmp_path / "plain")
    train(averaged, few(64), recipe, tmp_path / "averaged")
    saved = load_file(tmp_path / "averaged")
    key = "store.head/linear/weight"
    assert torch.equal(saved[f"average/{key}"], averaged.store["head/linear/weight"])
    assert torch.equal(saved[f"weight/{key}"], plain.store["head/linear/weight"])
    again = Supernet(miniature, 10, 1, seed=3)
    train(again, few(64), recipe, tmp_path / "averaged")
    assert equal(again, averaged)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ema", 1.5),
        ("batch", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("gradient_clip", -1.0),
        ("weight_decay", -1.0),
        ("precision", "fp8"),
        ("accumulate", 0),
    ],
)
def test_a_recipe_outside_its_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} of the training .* got "):
        TrainingRecipe(**{field: value})


def test_checkpoints_give_back_weights_optimiser_and_progress(tmp_path: Path) -> None:
    def made(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        return module, torch.optim.AdamW(module.parameters())

    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(torch.arange(6.0).view(2, 3)).square().mul(torch.arange(4.0)).sum().backward()
        optimizer.step()

    one, two = made(0), made(1)
    step(*one)
    save_checkpoint(tmp_path / "c", *one, "me", {"epoch": 1, "rows": [0.1]})
    assert load_checkpoint(tmp_path / "c", *two, "me") == ({"epoch": 1, "rows": [0.1]}, {})
    assert read_progress(tmp_path / "c") == {"epoch": 1, "rows": [0.1]}
    step(*one)
    step(*two)
    assert equal(one[0], two[0])


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [warm_cosine(2.0, 0.1, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)


def network_of(miniature: SearchSpace) -> nn.Module:
    supernet = Supernet(miniature, 10, 1)
    return supernet.extract(next(a for a in map(miniature.sample, map(random.Random, range(9))) if a.stages[0].norm == "batch"))


def finetuned(network: nn.Module, data: DataSplits, path: Path, **options: Any) -> list[dict[str, float]]:
    chosen: dict[str, Any] = {"recipe": FINETUNE, "identity": "winner", **options}
    recipe = chosen.pop("recipe")
    return finetune(network, data, recipe, 16, path, **chosen)


@pytest.fixture(scope="module")
def tuned(miniature: SearchSpace, few: Few, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, list[Any], Path]:
    path = tmp_path_factory.mktemp("tuned") / "winner.safetensors"
    network = network_of(miniature)
    return network, finetuned(network, few(64), path), path


@pytest.mark.parametrize("at", [3, 6, 12])
def test_a_killed_finetuning_resumes_bit_for_bit(
    miniature: SearchSpace, few: Few, tuned: tuple[nn.Module, list[Any], Path], tmp_path: Path, at: int
) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        finetuned(network_of(miniature), few(64), path, progress=killer(at))
    torch.manual_seed(at)
    resumed = network_of(miniature)
    assert finetuned(resumed, few(64), path) == tuned[1]
    assert equal(resumed, tuned[0])
    assert not resumed.training


def test_finetuning_learns(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    recipe = FinetuneRecipe(epochs=3, batch=32, learning_rate=1e-2)
    rows = finetuned(network_of(miniature), few(1150), tmp_path / "checkpoint", recipe=recipe)
    assert rows[0]["loss"] > rows[1]["loss"] > rows[2]["loss"]
    assert rows[-1]["accuracy"] > 0.35


def test_finetuning_refuses_foreign_and_damaged_checkpoints(
    miniature: SearchSpace, few: Few, tuned: tuple[nn.Module, list[Any], Path], tmp_path: Path
) -> None:
    with pytest.raises(FileError, match="belongs to another"):
        finetuned(network_of(miniature), few(64), tuned[2], identity="other")
    with pytest.raises(FileError, match="is damaged"):
        finetuned(network_of(miniature), few(64), damaged(tmp_path / "c", tuned[2], "truncated"))


def test_finetuning_stops_at_a_loss_that_is_not_finite(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    network = network_of(miniature)
    with torch.no_grad():
        network.nodes["head"].linear.bias.fill_(float("inf"))
    with pytest.raises(NasError, match="the loss is nan at step 0: lower the learning rate"):
        finetuned(network, few(64), tmp_path / "checkpoint")
