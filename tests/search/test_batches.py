from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search import model_strategy, strategy
from nas.search.batches import Batches
from nas.search.evidence import best_and_latest, front
from nas.search.pareto import dominates
from nas.search.strategies.tpe import Tpe
from nas.search.types import COMPLETE, Problem, Trial


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 3000))
def test_batches_cover_the_numbers_in_order_and_grow_with_what_came_before(share, least, number):
    batches = Batches(share, least)
    start, size = batches.of(number)
    assert start <= number < start + size
    assert size == max(least, start // share)
    assert batches.of(start) == batches.of(start + size - 1) == (start, size)
    assert batches.of(start + size)[0] == start + size


def test_a_sampler_serves_a_batch_and_a_resumed_search_plans_the_same(problem, fake, monkeypatch):
    monkeypatch.setattr(Tpe, "share", 3)
    made = []
    sampler = Tpe.sampler
    monkeypatch.setattr(Tpe, "sampler", lambda self, asked: made.append(asked.count) or sampler(self, asked))
    whole = Tpe(problem, 5, startup=8)
    trials = fake.advance(problem, whole, 0, 30)
    assert len({trial.architecture.digest for trial in trials}) == 30
    assert [count for count in made if count > 1] == [2, 3, 4, 5, 7, 9]
    resumed = Tpe(problem, 5, startup=8)
    resumed.tell(trials[:23])
    assert [resumed.ask(23).digest] == [trials[23].architecture.digest]


def test_what_is_remembered_are_the_latest_and_the_best_before_them(problem, fake):
    accuracies = [0.3, 0.9, 0.1, 0.8, 0.2, 0.4, 0.5]
    known = [Trial(n, None, COMPLETE, {"accuracy": a}) for n, a in enumerate(accuracies)]  # type: ignore[arg-type]
    assert [trial.number for trial in best_and_latest(known, 2, 3)] == [1, 3, 4, 5, 6]
    assert best_and_latest(known, 9, 9) == known


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_the_front_is_what_no_other_trial_beats(seed, count):
    """Against the definition, and of equal trials the first."""
    rng = random.Random(seed)
    points = [(rng.randrange(13), rng.randrange(13)) for _ in range(count)]
    two = Problem(None, lambda _: {}, None, ("accuracy", "latency"))  # type: ignore[arg-type]
    known = [Trial(n, None, COMPLETE, {"accuracy": float(a), "latency": float(b)}) for n, (a, b) in enumerate(points)]  # type: ignore[arg-type]
    costs = [(-a, b) for a, b in points]
    expected = [n for n, one in enumerate(costs) if one not in costs[:n] and not any(dominates(c, one) for c in costs)]
    assert [trial.number for trial in front(two, known, 100)] == expected
    assert [trial.number for trial in front(two, known, 2)] == sorted(trial.number for trial in front(two, known, 2))
    assert len(front(two, known, 2)) == min(2, len(expected))


def test_with_several_objectives_a_model_keeps_the_front_it_has_seen(problem, fake, monkeypatch):
    """The best by accuracy and the latest alone would forget the fast end, from which nothing would be bred either."""
    monkeypatch.setattr(model_strategy.ModelStrategy, "best", 5)
    monkeypatch.setattr(model_strategy.ModelStrategy, "latest", 5)
    monkeypatch.setattr(model_strategy, "PARENTS", 5)
    two = Problem(problem.space, fake.describe, None, ("accuracy", "latency"))
    for sought, remembered in ((two, True), (Problem(problem.space, fake.describe), False)):
        found = strategy.create("bo", sought)
        known = [
            Trial(n, None, COMPLETE, {"accuracy": 0.5 + 0.01 * n, "latency": 1.0 + n})  # type: ignore[arg-type]
            for n in range(40)
        ]
        assert {0, 20} <= {t.number for t in found.evidence(known)} or not remembered
        assert len(found.evidence(known)) == (40 if remembered else 10)
        assert (0 in {t.number for t in found.parents(known)}) == remembered
        assert len(found.parents(known)) <= 10
