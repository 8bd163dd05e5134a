from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas.search.batches import Batches
from nas.search.strategies.tpe import Tpe
from nas.search.surrogate_study import best_and_latest
from nas.search.types import COMPLETE, Trial


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
