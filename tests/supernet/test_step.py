"""A training step: gradients add up, threads and checkpointing change nothing, a teacher from outside is heard."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.space import SearchSpace
from nas.supernet.data import DataSplits
from nas.supernet.schedule import adamw
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, Lesson, StepPlan, training_strategy
from nas.supernet.supernet import Supernet

Few = Callable[[int], DataSplits]


def sandwich(space: SearchSpace, step: int, networks: int = 4) -> StepPlan:
    return training_strategy("sandwich").plan(Draw(space, 0, step, 10, networks))


class Knowing:
    """A teacher that has a word (classes,) on each of some images; `asked` tells how many it saw at a time."""

    def __init__(self, images: Tensor, words: Tensor) -> None:
        self.images, self.words, self.asked = images, words, list[int]()

    def __call__(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        found = [int((self.images == image).flatten(1).all(1).nonzero()[0]) for image in images]
        return self.words[found]


def gradients(supernet: Supernet) -> dict[str, Tensor]:
    return {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}


def test_a_step_draws_the_largest_the_smallest_and_some_others(miniature: SearchSpace) -> None:
    lessons = sandwich(miniature, 7, 5).lessons
    assert len(lessons) == 5
    assert [len(stage.blocks) for stage in lessons[0].architecture.stages] == [2, 2]
    assert [stage.width for stage in lessons[0].architecture.stages] == [24, 32]
    assert [stage.width for stage in lessons[1].architecture.stages] == [16, 24]
    kinds = {op.name for step in range(20) for block in sandwich(miniature, step, 1).lessons[0].architecture.stages[1].blocks
             for op in block.mixers}  # fmt: skip
    assert kinds == {"depthwise_conv", "global_attention"}


def test_a_step_accumulates_the_gradients_of_all_its_networks(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1), few(16)
    plan, batch, runner = sandwich(miniature, 0, 3), data.train, StepRunner(supernet, data)
    lessons = [dataclasses.replace(lesson, labels=1.0, teacher=None, distil=0.0) for lesson in plan.lessons]
    found, alone = [], []
    for lesson in lessons:
        alone.append(runner.backward(StepPlan((lesson,)), batch.images, batch.labels))
        found.append({key: 0.0 if t.grad is None else t.grad.clone() for key, t in supernet.store.items()})
        supernet.zero_grad()
        network = supernet.extract(lesson.architecture).train()
        logits = network(data.prepare(batch.images, lesson.architecture.resolution))
        torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1).backward()
        for name, (key, cut) in supernet.cuts(lesson.architecture).items():
            torch.testing.assert_close(found[-1][key][cut.slices], network.get_parameter(name).grad)
    assert runner.backward(StepPlan(tuple(lessons)), batch.images, batch.labels) == alone[0]
    for key, tensor in supernet.store.items():
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, sum(each[key] for each in found), rtol=1e-4, atol=1e-6)


def test_a_step_moves_the_largest_network_as_it_moves_the_same_network_alone(miniature: SearchSpace, few: Few) -> None:
    """Gradients of kernels come in the order of the maps that they read: fused optimisers go by memory, not by index."""
    supernet, data = Supernet(miniature, 10, 1).train(), few(16)
    largest, batch = miniature.largest(), data.train
    assert any(cut.whole and len(cut.shape) == 4 for _, cut in supernet.cuts(largest).values())
    network = supernet.extract(largest)
    shared, alone = (adamw(module, 1e-2, 0.0, (0.9, 0.99)) for module in (supernet, network))
    StepRunner(supernet, data).backward(StepPlan((Lesson(architecture=largest),)), batch.images, batch.labels)
    shared.step()
    logits = network(data.prepare(batch.images, largest.resolution))
    F.cross_entropy(logits, batch.labels, label_smoothing=0.1).backward()
    alone.step()
    for tensor in supernet.store.values():
        assert tensor.grad is None or tensor.grad.stride() == tensor.stride()
    for name, parameter in supernet.extract(largest).named_parameters():
        torch.testing.assert_close(parameter, network.get_parameter(name), rtol=0.0, atol=1e-6)


def test_threads_change_no_bit_of_the_gradients(miniature: SearchSpace, few: Few) -> None:
    data, found = few(16), []
    for threads in (1, 2, 4):
        supernet = Supernet(miniature, 10, 1).train()
        with StepRunner(supernet, data, StepOptions(threads=threads)) as runner:
            for step in range(3):
                runner.backward(sandwich(miniature, step), data.train.images, data.train.labels)
        found.append(gradients(supernet))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(torch.equal(gradient, found[0][name]) for name, gradient in other.items())


def test_an_error_in_the_largest_network_reaches_the_caller_instead_of_a_deadlock(miniature: SearchSpace, few: Few) -> None:
    data, supernet = few(16), Supernet(miniature, 10, 1).train()
    with StepRunner(supernet, data, StepOptions(threads=2)) as runner, pytest.raises(RuntimeError, match="channels"):
        runner.backward(sandwich(miniature, 0), data.train.images.repeat(1, 2, 1, 1), data.train.labels)


def test_checkpointing_changes_no_bit_of_the_gradients(miniature: SearchSpace, few: Few) -> None:
    data, found = few(16), []
    for checkpointing in (False, True):
        supernet = Supernet(miniature, 10, 1).train()
        runner = StepRunner(supernet, data, StepOptions(checkpointing=checkpointing))
        for step in range(4):
            runner.backward(sandwich(miniature, step), data.train.images, data.train.labels)
        found.append(gradients(supernet))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


def test_half_precision_gives_nearly_the_same_gradients(miniature: SearchSpace, few: Few) -> None:
    data, found = few(16), []
    for precision in ("fp32", "bf16"):
        supernet = Supernet(miniature, 10, 1).train()
        runner = StepRunner(supernet, data, StepOptions(precision=precision))
        runner.backward(sandwich(miniature, 0), data.train.images, data.train.labels)
        found.append(torch.cat([gradient.flatten() for gradient in gradients(supernet).values()]))
    assert found[0].dtype == found[1].dtype == torch.float32
    assert not torch.equal(*found)
    assert F.cosine_similarity(*found, dim=0) > 0.95


def test_a_teacher_from_outside_is_heard_by_a_network_that_another_one_teaches(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    batch = data.train
    large, small = miniature.largest(), miniature.smallest()
    plan = StepPlan((Lesson(architecture=large), Lesson(architecture=small, labels=0.25, teacher=0, distil=0.75)))
    word = F.one_hot((batch.labels + 1) % 10, 10).float()
    teacher = Knowing(batch.images, word)
    options = StepOptions(teacher=teacher, teacher_share=0.4, label_smoothing=0.0)
    StepRunner(supernet, data, options).backward(plan, batch.images, batch.labels)
    found = {key: tensor.grad.clone() for key, tensor in supernet.store.items() if tensor.grad is not None}
    supernet.zero_grad()
    logits, student = (supernet(data.prepare(batch.images, each.resolution), each) for each in (large, small))
    told = [0.6 * F.cross_entropy(each, batch.labels) + 0.4 * F.cross_entropy(each, word) for each in (logits, student)]
    (told[0] + 0.25 * told[1] + 0.75 * F.cross_entropy(student, logits.detach().softmax(1))).backward()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, supernet.store[key].grad, rtol=1e-4, atol=1e-6)
    assert sum(teacher.asked) == 16  # both networks see the same images


def test_a_teacher_from_outside_is_heard_in_the_place_of_labels(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    batch = data.train
    teacher = Knowing(batch.images, F.one_hot((batch.labels + 1) % 10, 10).float())
    plan = StepPlan(sandwich(miniature, 0).lessons[:1])
    StepRunner(supernet, data, StepOptions(teacher=teacher, teacher_share=1.0)).backward(plan, batch.images, batch.labels)
    found = supernet.store["head/linear/bias"].grad.clone()
    supernet.zero_grad()
    StepRunner(supernet, data, StepOptions(label_smoothing=0.0)).backward(plan, batch.images, (batch.labels + 1) % 10)
    torch.testing.assert_close(found, supernet.store["head/linear/bias"].grad)
    assert sum(teacher.asked) == 16


def test_threads_change_no_bit_of_what_a_teacher_from_outside_says(miniature: SearchSpace, few: Few) -> None:
    """Its word depends on how many images it sees at once, as the last bits of any network's do."""

    def teacher(images: Tensor) -> Tensor:
        return torch.full((len(images), 10), 1.0 / len(images))

    data, found = few(20), []
    for threads in (1, 2, 4):
        supernet = Supernet(miniature, 10, 1).train()
        with StepRunner(supernet, data, StepOptions(threads=threads, teacher=teacher)) as runner:
            runner.backward(sandwich(miniature, 0), data.train.images, data.train.labels)
        found.append(gradients(supernet))
    assert all(torch.equal(gradient, other[name]) for other in found[1:] for name, gradient in found[0].items())


def test_a_teacher_from_outside_is_asked_by_several_threads_at_once(miniature: SearchSpace, few: Few) -> None:
    """Each waits in the teacher until the other is there."""
    supernet, data, both = Supernet(miniature, 10, 1).train(), few(16), threading.Barrier(2)

    def teacher(images: Tensor) -> Tensor:
        both.wait(timeout=20.0)
        assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 1
        return torch.full((len(images), 10), 0.1)

    with StepRunner(supernet, data, StepOptions(threads=2, teacher=teacher)) as runner:
        runner.backward(sandwich(miniature, 0), data.train.images, data.train.labels)


def test_labels_may_be_probabilities(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    runner, plan = StepRunner(supernet, data), sandwich(miniature, 0)
    whole = runner.backward(plan, data.train.images, data.train.labels)
    assert runner.backward(plan, data.train.images, F.one_hot(data.train.labels, 10).float()) == pytest.approx(whole)
