"""How a training computes: memory formats, compiled networks, and choices that a resumed training takes over."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from killing import Killed, equal, killer
from torch import Tensor, nn

from nas.errors import FileError, UsageError
from nas.search_spaces.space import SearchSpace
from nas.supernet import engine_trials, training
from nas.supernet.data import DataSplits
from nas.supernet.engine import Engine, Wish, engine_path, keep_engine, kept_engine, silent
from nas.supernet.finetune import FinetuneRecipe, finetune
from nas.supernet.layout import CHANNELS_LAST, CONTIGUOUS, MEMORY_FORMATS, laid_out
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.step import StepRunner
from nas.supernet.supernet import Supernet
from nas.supernet.training import train, training_identity
from nas.supernet.workers import Alone

Few = Callable[[int], DataSplits]
RECIPE = TrainingRecipe(epochs=2, batch=16, learning_rate=3e-3, random_architectures=1)
FINETUNE = FinetuneRecipe(epochs=2, batch=16, learning_rate=1e-3)
IMAGES = 40
"""Two whole batches and a smaller one."""


def network_of(space: SearchSpace) -> nn.Module:
    """A network with batch norms."""
    drawn = map(space.sample, map(random.Random, range(9)))
    return Supernet(space, 10, 1).extract(next(each for each in drawn if each.stages[0].norm == "batch"))


def tuned(network: nn.Module, data: DataSplits, path: Path, **options: Any) -> list[str]:
    """What is told while a network is trained."""
    told: list[str] = []
    recipe = dataclasses.replace(FINETUNE, **options.pop("changes", {}))
    finetune(network, data, recipe, 16, path, "me", tell=told.append, **options)
    return told


class Compiler:
    """Stands for `torch.compile`: what it gives computes the same, and counts its calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.compiled, self.sizes = error, 0, list[int]()

    def __call__(self, network: nn.Module, **_: Any) -> Callable[[Tensor], Tensor]:
        self.compiled += 1

        def forward(images: Tensor) -> Tensor:
            if self.error is not None:
                raise self.error
            self.sizes.append(len(images))
            logits: Tensor = network(images)
            return logits

        return forward


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    found = Compiler()
    monkeypatch.setattr(torch, "compile", found)
    return found


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], list[str]]:
    """Makes the CPU pass for a device where `auto` is tried, on which steps take the given seconds in turn."""

    def act(first: float, second: float) -> list[str]:
        tries: list[str] = []

        def in_turn(one: Callable[[], None], other: Callable[[], None]) -> tuple[float, float]:
            one()
            other()
            tries.append("tried")
            return first, second

        for module in (engine_trials, training):
            monkeypatch.setattr(module, "tried_on", lambda device: True)
        monkeypatch.setattr(engine_trials, "in_turn", in_turn)
        return tries

    return act


@given(some.integers(1, 3), some.integers(1, 4), some.integers(2, 5), some.integers(2, 5), some.sampled_from([*MEMORY_FORMATS]))
def test_images_keep_their_values_in_either_format(batch: int, channels: int, height: int, width: int, form: str) -> None:
    images = torch.rand(batch, channels, height, width)
    arranged = laid_out(images, form)
    assert torch.equal(arranged, images)
    assert arranged.is_contiguous(memory_format=MEMORY_FORMATS[form])
    assert arranged.stride()[1] == (1 if form == CHANNELS_LAST else height * width)
    assert laid_out(arranged, form) is arranged
    assert laid_out(images, None) is images


@pytest.mark.parametrize(
    ("field", "recipe"), [("memory_format", TrainingRecipe), ("memory_format", FinetuneRecipe), ("compile", FinetuneRecipe)]
)
def test_an_unknown_word_is_refused_with_the_choices(field: str, recipe: type) -> None:
    with pytest.raises(UsageError, match=f"{field} of a training is one of auto, .* got 'fast'"):
        recipe(**{field: "fast"})


def test_how_a_training_computes_names_no_training(miniature: SearchSpace, few: Few) -> None:
    one, other = RECIPE, dataclasses.replace(RECIPE, memory_format=CONTIGUOUS)
    supernet, data = Supernet(miniature, 10, 1), few(16)
    assert one == other
    assert training_identity(supernet, data, one) == training_identity(supernet, data, other)
    alone = dataclasses.replace(FINETUNE, memory_format=CONTIGUOUS, compile="on")
    assert (alone, str(alone), alone.decisive()) == (FINETUNE, str(FINETUNE), FINETUNE.decisive())
    assert {"memory_format", "compile"} & {*one.decisive(), *alone.decisive()} == set()
    assert one.decisive()["learning_rate"] == 3e-3


@pytest.mark.parametrize("form", MEMORY_FORMATS)
def test_networks_see_images_in_the_format_of_the_recipe(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    seen: set[bool] = set()

    def watch(images: Tensor) -> Tensor:
        seen.add(images.stride(1) == 1)
        return images

    def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training:
            watch(inputs[0])

    network = network_of(miniature)
    network.register_forward_pre_hook(hook)
    tuned(network, few(IMAGES), tmp_path / "alone", changes={"memory_format": form, "epochs": 1, "augment": ""})
    assert seen == {form == CHANNELS_LAST}
    seen.clear()
    run = Supernet.run
    monkeypatch.setattr(Supernet, "run", lambda self, images, *rest: run(self, watch(images), *rest))
    train(Supernet(miniature, 10, 1), few(IMAGES), dataclasses.replace(RECIPE, memory_format=form, augment=""), tmp_path / "c")
    assert seen == {form == CHANNELS_LAST}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "c"]


def test_on_a_cpu_auto_is_a_rule(miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler) -> None:
    one, other = network_of(miniature), network_of(miniature)
    assert tuned(one, few(IMAGES), tmp_path / "a") == []
    assert tuned(other, few(IMAGES), tmp_path / "b", changes={"memory_format": CHANNELS_LAST, "compile": "off"}) == []
    assert equal(one, other)
    assert compiler.compiled == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_whole_batches_go_through_the_compiled_network(
    miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler
) -> None:
    plain, network = network_of(miniature), network_of(miniature)
    tuned(plain, few(IMAGES), tmp_path / "plain")
    (line,) = tuned(network, few(IMAGES), tmp_path / "c", changes={"compile": "on"})
    assert line.startswith("images channels-last, network compiled: compiled in")
    assert (compiler.compiled, compiler.sizes) == (1, [16] * 5)
    assert equal(network, plain), "trying a step changes nothing"


@pytest.mark.parametrize("at", [2, 5])
def test_a_resumed_training_computes_as_it_began(
    miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler, accelerated: Any, at: int
) -> None:
    """Killed within the first epoch, before any checkpoint, or after one."""
    accelerated(0.002, 0.001)
    whole, resumed, changes = network_of(miniature), network_of(miniature), {"compile": "on"}
    tuned(whole, few(IMAGES), tmp_path / "whole", changes=changes)
    with pytest.raises(Killed):
        tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes=changes, progress=killer(at))
    began = kept_engine(tmp_path / "c", Wish(compile="on"))
    assert began is not None
    assert (began.memory_format, began.compiled) == (CONTIGUOUS, True)
    tries = accelerated(0.001, 0.002)
    assert tuned(resumed, few(IMAGES), tmp_path / "c", changes=changes) == []
    assert tries == []
    assert kept_engine(tmp_path / "c", Wish(compile="on")) == began
    assert compiler.compiled == 3
    assert equal(resumed, whole)


@pytest.mark.parametrize(
    "error", [RuntimeError("no C++ compiler\n\nlong trace"), NotImplementedError("unfold"), OSError(28, "full")]
)
def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plain, network = network_of(miniature), network_of(miniature)
    tuned(plain, few(IMAGES), tmp_path / "plain")
    failing = Compiler(error)
    monkeypatch.setattr(torch, "compile", failing)
    (line,) = tuned(network, few(IMAGES), tmp_path / "c", changes={"compile": "on"})
    assert line.startswith("images channels-last, network not compiled: torch.compile failed: ")
    assert "\n" not in line
    assert "long trace" not in line
    assert equal(network, plain)
    assert failing.compiled == 1
    tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes={"compile": "on", "epochs": 3})
    assert failing.compiled == 1, "what failed is not tried again"


def test_a_compiled_training_whose_compiler_is_gone_goes_on_without(
    miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler
) -> None:
    with pytest.raises(Killed):
        tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes={"compile": "on"}, progress=killer(4))
    compiler.error = RuntimeError("no compiler")
    (line,) = tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes={"compile": "on"})
    assert "began with its network compiled and goes on without, torch.compile failed: no compiler" in line


@pytest.mark.parametrize(("compiled", "pays"), [(0.5, True), (0.96, True), (0.98, False), (1.5, False)])
def test_auto_compiles_where_the_steps_take_clearly_less(
    miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler, accelerated: Any, monkeypatch: pytest.MonkeyPatch,
    compiled: float, pays: bool,
) -> None:  # fmt: skip
    accelerated(1.0, compiled)
    monkeypatch.setattr(engine_trials, "SECONDS_A_TENSOR", 0.0)
    (line,) = tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes={"memory_format": CHANNELS_LAST})
    assert f"network {'compiled' if pays else 'not compiled'}: 1 s a step, " in line
    engine = kept_engine(tmp_path / "c", Wish(CHANNELS_LAST, "auto"))
    assert engine is not None
    assert engine.compiled == pays
    assert compiler.compiled == 1
    assert len(compiler.sizes) > 4 if pays else len(compiler.sizes) < 4


def test_auto_compiles_nothing_for_the_sake_of_few_steps(
    miniature: SearchSpace, few: Few, tmp_path: Path, compiler: Compiler, accelerated: Any
) -> None:
    accelerated(1.0, 0.1)
    (line,) = tuned(network_of(miniature), few(IMAGES), tmp_path / "c", changes={"memory_format": CHANNELS_LAST})
    assert "network not compiled: 6 steps are too few to pay for about" in line
    assert compiler.compiled == 0


def test_a_trial_leaves_the_network_and_all_random_draws_alone(miniature: SearchSpace) -> None:
    network = network_of(miniature).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    trial = engine_trials.Trial(network, lambda: (torch.rand(4, 1, 16, 16), torch.arange(4)), 0.1)
    with engine_trials.unchanged(network):
        trial.step(network, CHANNELS_LAST)
        torch.rand(3)
        assert network.training
        assert any(not torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())
    assert not network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("contiguous", "faster"), [(1.0, CONTIGUOUS), (3.0, CHANNELS_LAST)])
def test_a_supernet_takes_the_faster_format_and_keeps_it(
    miniature: SearchSpace, few: Few, tmp_path: Path, accelerated: Any, contiguous: float, faster: str
) -> None:
    told: list[str] = []
    accelerated(2.0, contiguous)
    wished, whole, resumed = (Supernet(miniature, 10, 1) for _ in range(3))
    train(whole, few(32), RECIPE, tmp_path / "whole", tell=told.append)
    train(wished, few(32), dataclasses.replace(RECIPE, memory_format=faster), tmp_path / "wished")
    assert equal(whole, wished), "trying steps changes nothing"
    assert told == [
        f"images {faster.replace('_', '-')}, network not compiled: 2 s a step channels-last, {contiguous:.0f} s contiguous"
    ]
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1), few(32), RECIPE, tmp_path / "c", killer(2))
    tries = accelerated(contiguous, 2.0)
    train(resumed, few(32), RECIPE, tmp_path / "c", tell=told.append)
    assert (tries, len(told)) == ([], 1)
    assert equal(resumed, whole)


def test_the_other_workers_take_the_format_of_the_first(
    miniature: SearchSpace, few: Few, tmp_path: Path, accelerated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, seen = accelerated(2.0, 1.0), list[str]()
    second = Alone()
    second.rank = 1

    def wait() -> None:
        keep_engine(tmp_path / "c", Wish(), Engine(CONTIGUOUS, why="measured by the first"), silent)

    monkeypatch.setattr(second, "wait", wait)
    backward = StepRunner.backward

    def watched(runner: StepRunner, *arguments: Any, **options: Any) -> float:
        seen.append(str(runner.options.memory_format))
        return backward(runner, *arguments, **options)

    monkeypatch.setattr(StepRunner, "backward", watched)
    train(Supernet(miniature, 10, 1), few(32), RECIPE, tmp_path / "c", workers=second)
    assert tries == []
    assert set(seen) == {CONTIGUOUS}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"asked": {"memory_format": "auto", "compile": "off"}, "speed": 3}'])
def test_a_damaged_record_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    engine_path(tmp_path / "c").write_text(content)
    with pytest.raises(FileError, match=r"engine of a training .*c\.engine\.json is damaged"):
        kept_engine(tmp_path / "c", Wish())


def test_the_record_of_another_wish_does_not_count(tmp_path: Path) -> None:
    keep_engine(tmp_path / "c", Wish(), Engine(CONTIGUOUS, why="measured"), silent)
    assert kept_engine(tmp_path / "c", Wish()) == Engine(CONTIGUOUS, why="measured")
    assert kept_engine(tmp_path / "c", Wish(CHANNELS_LAST)) is None
    assert kept_engine(tmp_path / "other", Wish()) is None


def test_a_network_in_training_mode_can_be_traced_as_a_whole(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real compiler up to its code generation, which would take half a minute."""
    plain, network = network_of(miniature), network_of(miniature)
    tuned(plain, few(IMAGES), tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    (line,) = tuned(network, few(IMAGES), tmp_path / "c", changes={"compile": "on"})
    assert "network compiled" in line
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
