"""Every training strategy: its plans are functions of the step, fit together, train and resume; and each keeps its own rule."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import FileError, UnknownNameError, UsageError
from nas.search_spaces.complexity import block_macs
from nas.search_spaces.genotype import Gene
from nas.search_spaces.space import SearchSpace
from nas.supernet import training
from nas.supernet.data import DataSplits
from nas.supernet.distillation import CLIP, DISTANCES, alpha
from nas.supernet.merging import project
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.schedule import rate_in_phases, warm_cosine
from nas.supernet.step import StepRunner
from nas.supernet.strategies import Draw, Lesson, Phase, StepPlan, shrinking, strategy_names, training_strategy
from nas.supernet.supernet import Supernet
from nas.supernet.training import train

Few = Callable[[int], DataSplits]
STRATEGIES = pytest.mark.parametrize("name", strategy_names())


def plan_of(name: str, space: SearchSpace, step: int, steps: int = 40, networks: int = 4) -> StepPlan:
    return training_strategy(name).plan(Draw(space, 0, step, steps, networks))


@STRATEGIES
def test_a_plan_is_a_function_of_the_step(miniature: SearchSpace, name: str) -> None:
    plans = [plan_of(name, miniature, step) for step in range(0, 40, 3)]
    assert plans == [plan_of(name, miniature, step) for step in range(0, 40, 3)]
    assert len({lesson.architecture for plan in plans for lesson in plan.lessons}) > 5


@STRATEGIES
def test_the_lessons_of_a_plan_fit_together(miniature: SearchSpace, name: str) -> None:
    for step in range(40):
        lessons = plan_of(name, miniature, step).lessons
        for index, lesson in enumerate(lessons):
            assert miniature.contains(lesson.architecture)
            assert 0.0 <= lesson.rows[0] < lesson.rows[1] <= 1.0
            assert lesson.weight > 0.0
            assert lesson.distance in DISTANCES
            assert (lesson.teacher is None) == (lesson.distil == 0.0)
            if lesson.teacher is not None:
                assert lesson.teacher < index
                assert lessons[lesson.teacher].rows == lesson.rows


class Killed(BaseException):
    """What a kill is to the code: an exception that nothing catches."""


@STRATEGIES
def test_a_killed_training_resumes_bit_for_bit(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(training, "SAVE_STEPS", 1)
    recipe = TrainingRecipe(strategy=name, epochs=2, batch=16, random_architectures=1, ema=0.9, accumulate=2)

    def kill(step: int, steps: int, words: str) -> None:
        if step == 5:
            raise Killed

    whole = Supernet(miniature, 10, 1)
    train(whole, few(64), recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1), few(64), recipe, tmp_path / "part", kill)
    resumed = Supernet(miniature, 10, 1, seed=5)
    train(resumed, few(64), recipe, tmp_path / "part")
    assert all(torch.equal(tensor, resumed.store[key]) for key, tensor in whole.store.items())


def test_an_unknown_strategy_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="sandwich"):
        training_strategy("sandwhich")


def test_fair_takes_every_choice_of_every_gene_equally_often(miniature: SearchSpace) -> None:
    from nas.supernet.strategies.fair import turn

    for gene in miniature.genes:
        taken = Counter(turn(gene, number, 0) for number in range(7 * len(gene.choices)))
        assert taken == dict.fromkeys(gene.choices, 7)


def test_nested_networks_are_prefixes_of_each_other(miniature: SearchSpace) -> None:
    supernet = Supernet(miniature, 10, 1)
    for step in range(5):
        grains = [supernet.cuts(lesson.architecture) for lesson in plan_of("nested", miniature, step).lessons]
        assert len(grains) == 4
        for large, small in itertools.pairwise(grains):
            assert {key for key, _ in small.values()} <= {key for key, _ in large.values()}
        sizes = [sum(math.prod(cut.shape) for _, cut in grain.values()) for grain in grains]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > sizes[-1]


def phase_steps(phase: int, steps: int) -> range:
    edges = [each.first_step(steps) for each in shrinking.PHASES] + [steps]
    return range(edges[phase], edges[phase + 1])


def test_shrinking_opens_depth_before_width_and_each_in_two_steps(miniature: SearchSpace) -> None:
    depths, widths = ((1, 2, 3), *miniature.depths[1:]), ((8, 16, 24), *miniature.widths[1:])
    space, steps = dataclasses.replace(miniature, depths=depths, widths=widths), 200

    def first_stages(phase: int) -> tuple[set[int], set[int]]:
        """Depths and widths of the first stage that networks of a phase have."""
        plans = (plan_of("shrinking", space, step, steps).lessons for step in phase_steps(phase, steps))
        found = [lesson.architecture.stages[0] for lessons in plans for lesson in lessons]
        return {len(stage.blocks) for stage in found}, {stage.width for stage in found}

    opened = [first_stages(phase) for phase in range(len(shrinking.PHASES))]
    assert [depths for depths, _ in opened] == [{3}, {3}, {2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}]
    assert [widths for _, widths in opened] == [{24}, {24}, {24}, {24}, {16, 24}, {8, 16, 24}]
    assert all(len(plan_of("shrinking", space, step, steps).lessons) == 1 for step in phase_steps(shrinking.LARGEST, steps))


def test_each_phase_warms_up_to_its_own_peak_and_decays_to_zero() -> None:
    rates = [rate_in_phases(2.6, 0.1, step, 590, shrinking.PHASES) for step in range(590)]
    edges = (0, 180, 300, 325, 445, 470, 590)
    for (begin, end), peak in zip(itertools.pairwise(edges), (2.6, 0.96, 0.08, 0.24, 0.08, 0.24), strict=True):
        mine = rates[begin:end]
        assert max(mine) == pytest.approx(peak)
        assert mine[-1] < 0.05 * peak
        assert mine[: len(mine) // 10] == sorted(mine[: len(mine) // 10])
        assert mine[0] < 0.51 * peak
    one = [rate_in_phases(2.0, 0.1, step, 50, (Phase(),)) for step in range(50)]
    assert one == [warm_cosine(2.0, 0.1, step, 50) for step in range(50)]


@pytest.mark.parametrize("steps", range(1, 8))
def test_short_trainings_skip_phases_and_never_fail(miniature: SearchSpace, steps: int) -> None:
    for step in range(steps):
        assert 0.0 < rate_in_phases(2.0, 0.1, step, steps, shrinking.PHASES) <= 2.0
        assert plan_of("shrinking", miniature, step, steps).lessons
    assert len(plan_of("shrinking", miniature, 0, steps).lessons) == 1


@pytest.mark.parametrize("setting", ["width", "expansion", "ratio", "qk_ratio", "heads"])
def test_what_is_put_in_order_of_importance_opens_with_the_widths(setting: str) -> None:
    """Else the order would be another one than that in which smaller networks have learned."""
    gene = Gene(f"s0b0.{setting}", (1, 2, 3), True)
    assert [shrinking.allowed(gene, phase) for phase in range(6)] == [(3,), (3,), (3,), (3,), (2, 3), (1, 2, 3)]


def test_shrinking_puts_channels_in_order_once_before_widths_open(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    seen: list[int] = []
    monkeypatch.setattr(training, "reorder", lambda *_: seen.append(len(taken)))
    recipe = TrainingRecipe(strategy="shrinking", epochs=10, batch=8, random_architectures=0)
    train(Supernet(miniature, 10, 1), few(16), recipe, tmp_path / "net", lambda step, *_: taken.append(step))
    assert seen == [phase_steps(shrinking.WIDTHS, 20).start] == [16]


def test_a_training_by_other_phases_is_refused_unless_it_is_finished(
    miniature: SearchSpace, few: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_STEPS", 1)
    recipe = TrainingRecipe(strategy="uniform", epochs=2, batch=8, random_architectures=0)

    def kill(step: int, steps: int, words: str) -> None:
        if step == 3:
            raise Killed

    train(Supernet(miniature, 10, 1), few(16), recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(Supernet(miniature, 10, 1), few(16), recipe, tmp_path / "part", kill)
    other = dataclasses.replace(training_strategy("uniform"), phases=(Phase(rate=0.5),))
    monkeypatch.setattr(training, "training_strategy", lambda _: other)
    train(Supernet(miniature, 10, 1), few(16), recipe, tmp_path / "whole")
    with pytest.raises(FileError, match=r"other phases of strategy uniform .*choose another --out"):
        train(Supernet(miniature, 10, 1), few(16), recipe, tmp_path / "part")


@pytest.mark.parametrize("phases", [(), (Phase(0.5),), (Phase(), Phase(0.5), Phase(0.5)), (Phase(), Phase(0.6), Phase(0.5))])
def test_phases_begin_at_zero_and_ever_later(phases: tuple[Phase, ...]) -> None:
    with pytest.raises(UsageError, match="phases of training strategy uniform begin at"):
        dataclasses.replace(training_strategy("uniform"), phases=phases)


@pytest.mark.parametrize(("begins", "rate"), [(1.0, 1.0), (-0.1, 1.0), (0.0, 0.0), (0.0, math.nan)])
def test_a_phase_outside_its_training_or_without_a_rate_is_refused(begins: float, rate: float) -> None:
    with pytest.raises(UsageError, match="of a training strategy"):
        Phase(begins, rate)


def test_the_networks_of_a_step_are_of_like_complexity(miniature: SearchSpace) -> None:
    def spread(name: str) -> float:
        steps = ([math.log(block_macs(each.architecture)) for each in plan_of(name, miniature, s).lessons] for s in range(28))
        return sum(max(found) - min(found) for found in steps)

    assert spread("complexity") < 0.6 * spread("split_batch")


def test_split_batch_sums_what_its_networks_learn_alone(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    plan = plan_of("split_batch", miniature, 3)
    StepRunner(supernet, data).backward(plan, data.train.images, data.train.labels)
    together = {key: tensor.grad.clone() for key, tensor in supernet.store.items() if tensor.grad is not None}
    supernet.zero_grad()
    for index, lesson in enumerate(plan.lessons):
        alone = StepPlan((dataclasses.replace(lesson, rows=(0.0, 1.0)),))
        rows = slice(4 * index, 4 * index + 4)
        StepRunner(supernet, data).backward(alone, data.train.images[rows], data.train.labels[rows])
    assert together.keys() == {key for key, tensor in supernet.store.items() if tensor.grad is not None}
    assert all(torch.equal(gradient, supernet.store[key].grad) for key, gradient in together.items())


def naive_alpha(logits: Tensor, teacher: Tensor, a: float) -> list[float]:
    """Equation 5 image by image, the weights clipped but for a = 1."""
    found = []
    for q, p in zip(logits.softmax(1).tolist(), teacher.tolist(), strict=True):
        weights = [min((pk / qk) ** a, CLIP if a != 1.0 else math.inf) for pk, qk in zip(p, q, strict=True)]
        if a == 1.0:
            found.append(sum(qk * w * math.log(w) for qk, w in zip(q, weights, strict=True)))
        else:
            found.append(sum(qk * (w - 1.0) for qk, w in zip(q, weights, strict=True)) / (a * (a - 1.0)))
    return found


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_alpha_divergence_is_the_larger_of_two(sharpness: float) -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(6, 5).double() * sharpness, torch.randn(6, 5).double().softmax(1)
    larger = [max(pair) for pair in zip(naive_alpha(logits, teacher, -1.0), naive_alpha(logits, teacher, 1.0), strict=True)]
    assert float(alpha(logits, teacher)) == pytest.approx(sum(larger) / 6)


def test_where_nothing_is_clipped_the_gradient_is_that_of_the_divergence() -> None:
    torch.manual_seed(0)
    logits = (torch.randn(6, 5).double() * 0.3).requires_grad_()
    teacher = (torch.randn(6, 5).double() * 0.3).softmax(1)
    (found,) = torch.autograd.grad(alpha(logits, teacher), logits)

    def plain(a: float) -> Tensor:
        q = logits.softmax(1)
        ratio = teacher / q
        return (q * ratio * ratio.log()).sum(1) if a == 1.0 else (q * (ratio**a - 1.0)).sum(1) / (a * (a - 1.0))

    larger = torch.stack([plain(-1.0), plain(1.0)]).amax(0).mean()
    (wanted,) = torch.autograd.grad(larger, logits)
    torch.testing.assert_close(found, wanted)


def test_a_student_that_misses_what_the_teacher_sees_is_pulled_by_all_of_it() -> None:
    logits = torch.tensor([[6.0, 0.0]], requires_grad=True)
    (found,) = torch.autograd.grad(alpha(logits, torch.tensor([[0.1, 0.9]])), logits)
    torch.testing.assert_close(found, logits.detach().softmax(1) - torch.tensor([[0.1, 0.9]]))


def test_clipping_bounds_the_gradient_of_a_hopeless_student() -> None:
    logits = torch.tensor([[30.0, 0.0]], requires_grad=True)
    (found,) = torch.autograd.grad(alpha(logits, torch.tensor([[0.0, 1.0]])), logits)
    assert found.abs().max() <= CLIP
    assert torch.isfinite(found).all()


def test_opposing_gradients_of_the_largest_give_way() -> None:
    torch.manual_seed(0)
    others, largest = torch.randn(3, 4), torch.randn(3, 4)
    opposing = largest - 1.5 * others * (largest * others).sum() / others.square().sum() - 0.5 * others
    merged = project(others, opposing)
    assert float((opposing * others).sum()) < 0.0
    assert float(((merged - others) * others).sum()) == pytest.approx(0.0, abs=1e-5)
    agreeing = others + 0.1
    torch.testing.assert_close(project(others, agreeing), others + agreeing)
    assert torch.equal(project(torch.zeros(2), torch.ones(2)), torch.ones(2))


def test_conflicts_are_looked_for_only_after_the_first_part(miniature: SearchSpace) -> None:
    assert [plan_of("conflict", miniature, step).project for step in (0, 11, 12, 39)] == [False, False, True, True]


def test_projection_changes_only_what_is_opposed(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    plan = plan_of("conflict", miniature, 30)

    def gradients(chosen: StepPlan) -> dict[str, Tensor]:
        supernet.zero_grad()
        StepRunner(supernet, data).backward(chosen, data.train.images, data.train.labels)
        return {key: tensor.grad.clone() for key, tensor in supernet.store.items() if tensor.grad is not None}

    merged, summed = gradients(plan), gradients(dataclasses.replace(plan, project=False))
    first = gradients(StepPlan(plan.lessons[:1]))
    assert merged.keys() == summed.keys()
    for key, both in summed.items():
        largest = first.get(key)
        others = both if largest is None else both - largest
        wanted = both if largest is None else project(others, largest)
        torch.testing.assert_close(merged[key], wanted, rtol=1e-4, atol=1e-6)


@STRATEGIES
def test_turns_of_a_batch_add_up_to_the_whole(miniature: SearchSpace, few: Few, name: str) -> None:
    """Turns of unequal size, in evaluation mode, where no norm looks at the batch."""
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    plan, batch, runner = plan_of(name, miniature, 30), data.train, StepRunner(supernet, data)
    if any(lesson.rows != (0.0, 1.0) for lesson in plan.lessons):
        pytest.skip("its networks see parts of a batch, which turns cut in another way")
    runner.backward(plan, batch.images, batch.labels)
    whole = {key: tensor.grad.clone() for key, tensor in supernet.store.items() if tensor.grad is not None}
    supernet.zero_grad()
    for rows, last in ((slice(0, 10), False), (slice(10, 16), True)):
        images = batch.images[rows]
        runner.backward(plan, images, batch.labels[rows], len(images) / 16, last=last)
    for key, gradient in whole.items():
        torch.testing.assert_close(supernet.store[key].grad, gradient, rtol=1e-3, atol=1e-5)


def test_a_network_learns_from_labels_and_teacher_in_the_parts_it_is_told(miniature: SearchSpace, few: Few) -> None:
    supernet, data = Supernet(miniature, 10, 1).eval(), few(16)
    batch = data.train
    large, small = miniature.largest(), miniature.smallest()
    plan = StepPlan((Lesson(architecture=large), Lesson(architecture=small, labels=0.25, teacher=0, distil=0.75)))
    StepRunner(supernet, data).backward(plan, batch.images, batch.labels)
    found = {key: tensor.grad.clone() for key, tensor in supernet.store.items() if tensor.grad is not None}
    supernet.zero_grad()
    logits, student = (supernet(data.prepare(batch.images, each.resolution), each) for each in (large, small))
    hard = [F.cross_entropy(each, batch.labels, label_smoothing=0.1) for each in (logits, student)]
    (hard[0] + 0.25 * hard[1] + 0.75 * F.cross_entropy(student, logits.detach().softmax(1))).backward()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, supernet.store[key].grad, rtol=1e-4, atol=1e-6)
