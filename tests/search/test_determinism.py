"""One seed and one worker give one archive: on any executor, and however often the search is killed."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from nas.search import strategy
from nas.search.archive import Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.types import FAILED, Problem, best

EVALUATIONS, KILLED_AT = 16, (0, 5, 10)


class Killed(BaseException):
    """Ends the search where it is, as a signal would: nothing catches it."""


class Thread:
    """One worker that evaluates later, elsewhere."""

    workers = 1

    def __init__(self, evaluate):
        self.evaluate, self.pool = evaluate, ThreadPoolExecutor(1)

    def submit(self, number, architecture):
        return self.pool.submit(self.evaluate, architecture.to_json())


@pytest.fixture(params=strategy.names())
def name(request, monkeypatch):
    """Every registered strategy, small enough that it leaves its random start within few trials."""
    from nas.search import model_strategy, surrogate_study
    from nas.search.strategies import evolution, nsga2

    monkeypatch.setattr(surrogate_study.OptunaStrategy.__init__, "__defaults__", (0, 6))
    monkeypatch.setattr(evolution.RegularisedEvolution.__init__, "__defaults__", (0, 6, 3, 0.25))
    monkeypatch.setattr(nsga2.Nsga2.__init__, "__defaults__", (0, 6))
    monkeypatch.setattr(model_strategy.ModelStrategy.__init__, "__defaults__", (0, 6))
    for size, few in {"RANDOM": 20, "CHILDREN": 20, "ROUNDS": 2, "SHORTLIST": 2}.items():
        monkeypatch.setattr(model_strategy, size, few)
    return request.param


def search(path, problem, name, executor):
    with Archive(path, problem.space, problem.objectives, problem.budgets) as archive:
        run_search(problem, strategy.create(name, problem, 3), archive, executor, evaluations=EVALUATIONS)
        return archive.trials()


def plain(trials):
    return [(t.number, t.architecture, t.state, {k: v for k, v in t.metrics.items() if k != "seconds"}) for t in trials]


def test_an_archive_is_the_same_on_another_executor_and_after_any_number_of_kills(name, tmp_path, problem, fake):
    def fresh():
        return Problem(problem.space, fake.describe, problem.budgets, problem.objectives)

    whole = search(tmp_path / "whole", fresh(), name, LocalExecutor(fake.evaluate))
    assert len({trial.architecture.digest for trial in whole}) == EVALUATIONS
    calls = itertools.count()

    def killing(text):
        if next(calls) in KILLED_AT:
            raise Killed
        return fake.evaluate(text)

    for _ in KILLED_AT:
        with pytest.raises(Killed):
            search(tmp_path / "killed", fresh(), name, LocalExecutor(killing))
    ended = search(tmp_path / "killed", fresh(), name, Thread(fake.evaluate))
    assert plain(ended) == plain(whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), None])
@pytest.mark.parametrize("metric", ["accuracy", "latency", "loss"])
def test_a_metric_that_is_no_number_never_makes_a_candidate_the_best(tmp_path, problem, fake, metric, bad):
    def evaluate(text):
        metrics = {**fake.evaluate(text), "latency": 1e-4}
        return {**metrics, metric: bad, "loss" if metric != "loss" else "accuracy": 0.999} if len(text) % 2 else metrics

    def broken(text):
        return {name: value for name, value in evaluate(text).items() if value is not None}

    trials = search(tmp_path / "a", problem, "random", LocalExecutor(broken))
    odd = [trial for trial in trials if len(trial.architecture.to_json()) % 2]
    assert 0 < len(odd) < EVALUATIONS
    if metric == "accuracy" or (metric == "latency" and bad is not None):
        assert all(trial.state == FAILED and f"gave {metric}=" in trial.error for trial in odd)
    found = best(trials, problem.budgets)
    if metric != "loss":
        assert found.architecture not in [trial.architecture for trial in odd if trial.state == FAILED]
    assert found is not None
    with Archive(tmp_path / "a", problem.space, problem.objectives) as archive:
        assert best(archive.trials(), problem.budgets).number == found.number


def test_among_equal_accuracies_a_loss_that_is_no_number_comes_last(problem, fake):
    from dataclasses import replace

    one = fake.finished(problem, 0, problem.space.smallest())
    odd = replace(one, number=1, metrics={**one.metrics, "loss": float("nan")})
    assert best([odd, one], problem.budgets) is one
    assert best([one, odd], problem.budgets) is one
