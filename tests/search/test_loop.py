from __future__ import annotations

import itertools
import random
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from nas.search import strategy
from nas.search.archive import Archive
from nas.search.executors.base import WorkersLostError
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.types import COMPLETE, FAILED, Budgets, Problem, Trial, best


class Threads:
    """Three workers that finish in no particular order."""

    workers = 3

    def __init__(self, evaluate):
        self.evaluate, self.pool = evaluate, ThreadPoolExecutor(3)

    def submit(self, number, architecture):
        return self.pool.submit(self.evaluate, architecture.to_json())


@pytest.fixture
def run(tmp_path, problem, fake):
    names = itertools.count()

    def start(evaluations, where=None, executor=None, name="evolution", problem=problem, **options):
        location = where or tmp_path / f"{next(names)}.journal"
        with Archive(location, problem.space, problem.objectives, problem.budgets) as archive:
            found = strategy.create(name, problem, 3)
            run_search(problem, found, archive, executor or LocalExecutor(fake.evaluate), evaluations=evaluations, **options)
            return archive.trials()

    return start


def plain(trials):
    return [(t.number, t.architecture, t.state, {k: v for k, v in t.metrics.items() if k != "seconds"}) for t in trials]


def test_a_search_fills_the_archive_and_reports_its_progress(run, problem):
    seen = []
    trials = run(12, progress=lambda done, total, best: seen.append((done, total, best and best.number)))
    assert [trial.number for trial in trials] == list(range(12))
    assert [entry[:2] for entry in seen] == [(n, 12) for n in range(13)]
    assert seen[-1][2] == best(trials, problem.budgets).number
    assert all({"accuracy", "latency_upper", "params", "seconds"} <= trial.metrics.keys() for trial in trials)


def test_a_search_stopped_in_the_middle_and_resumed_gives_the_same_trials(run, tmp_path):
    whole = run(60)
    done = []
    half = run(60, tmp_path / "half", progress=lambda *args: done.append(args), should_stop=lambda: len(done) > 47)
    assert len(half) == 47
    assert plain(run(60, tmp_path / "half")) == plain(whole)


def test_the_interrupt_key_leaves_a_whole_archive(run, tmp_path, fake):
    calls = itertools.count()

    def interrupted(text):
        if next(calls) == 8:
            raise KeyboardInterrupt
        return fake.evaluate(text)

    with pytest.raises(KeyboardInterrupt):
        run(20, tmp_path / "cut", LocalExecutor(interrupted))
    assert plain(run(20, tmp_path / "cut")) == plain(run(20))


def test_a_failing_evaluation_is_a_failed_trial_that_is_never_best(run, problem, fake):
    def failing(text):
        metrics = fake.evaluate(text)
        if metrics["loss"] > 1.5:
            raise RuntimeError("out of\nmemory")
        return {**metrics, "accuracy": float("nan")} if metrics["loss"] < 1.1 else metrics

    trials = run(25, executor=LocalExecutor(failing))
    errors = {trial.error for trial in trials if trial.state == FAILED}
    assert errors == {"RuntimeError: out of memory", "the evaluation gave accuracy=nan, which is no finite number"}
    assert best(trials, problem.budgets).complete


def test_several_workers_give_unique_numbers_and_architectures(run, fake):
    trials = run(40, executor=Threads(fake.evaluate))
    assert [trial.number for trial in trials] == list(range(40))
    assert len({trial.architecture for trial in trials}) == 40


def test_numbers_that_a_killed_run_left_open_are_asked_again(run, problem, fake, tmp_path):
    rng = random.Random(1)
    with Archive(tmp_path / "gap", problem.space, problem.objectives) as archive:
        for number in (0, 1, 4):
            archive.add(fake.finished(problem, number, problem.space.sample(rng)))
    assert [trial.number for trial in run(6, tmp_path / "gap")] == list(range(6))


def test_a_search_ends_when_the_space_is_exhausted(run, fake):
    space = fake.space(
        stems=("patchify",), norms=("layer",), downsamples=("conv",), depths=((1,), (1, 2)), widths=((16,), (32, 48)),
        mixers=(("depthwise_conv",),) * 2, settings={"kernel": (3, 5), "dilation": (1,), "expansion": (4,)},
    )  # fmt: skip
    assert len(run(10_000, problem=Problem(space, fake.describe))) == space.size()


def test_a_search_without_workers_ends_without_inventing_failures(run, tmp_path, fake):
    class Lost(Threads):
        def submit(self, number, architecture):
            if number < 5:
                return super().submit(number, architecture)
            future = Future()
            future.set_exception(WorkersLostError("all gone"))
            return future

    with pytest.raises(WorkersLostError):
        run(20, tmp_path / "lost", Lost(fake.evaluate))
    assert all(trial.complete for trial in run(20, tmp_path / "lost"))


def test_best_is_feasible_complete_and_ties_go_to_loss_latency_number(problem):
    a = problem.space.smallest()

    def trial(number, accuracy, loss=1.0, upper=0.5, latency=0.4, state=COMPLETE):
        return Trial(number, a, state, {"accuracy": accuracy, "loss": loss, "latency": latency, "latency_upper": upper})

    budgets = Budgets({"latency": 1.0})
    assert best([], budgets) is None
    assert best([trial(0, 0.9, upper=1.01), trial(1, 0.9, state=FAILED)], budgets) is None
    assert best([trial(0, 0.9, upper=1.01), trial(1, 0.5, upper=1.0)], budgets).number == 1
    assert best([trial(0, 0.5, 2.0), trial(1, 0.5, 1.0)], budgets).number == 1
    assert best([trial(0, 0.5), trial(1, 0.5, latency=0.3), trial(2, 0.5, latency=0.3)], budgets).number == 1


def test_violations_add_up_and_unknown_values_break_the_budget():
    budgets = Budgets({"latency": 2.0, "params": 10.0})
    assert budgets.violation({"latency": 1.0, "latency_upper": 3.0, "params": 15.0}) == pytest.approx(1.0)
    assert budgets.violation({"latency": 2.0, "params": 10.0}) == 0.0
    assert budgets.violation({"latency": float("nan"), "params": 1.0}) == float("inf")
    assert budgets.violation({"params": 1.0}) == float("inf")
    with pytest.raises(ValueError, match="above zero"):
        Budgets({"latency": 0.0})
