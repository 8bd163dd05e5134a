import gc
import random

import pytest

from nas.predictors.remote.agent import rounds
from nas.predictors.remote.agent.rounds import interleave
from nas.predictors.timings import drift_factors, summarise


class Clock:
    """Simulated seconds: work advances it, by `slowness(now)` times what the work says."""

    def __init__(self, slowness=lambda now: 1.0):
        self.now, self.slowness = 0.0, slowness

    def __call__(self):
        self.now += 5e-8
        return self.now

    def work(self, seconds, noise=0.0, rng=None):
        def run():
            factor = 1.0 if rng is None else rng.lognormvariate(0, noise)
            self.now += seconds * factor * self.slowness(self.now)

        return run


def measured(monkeypatch, clock, works, reference=None, **options):
    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr(rounds, "clock_overhead", lambda: 5e-8)
    settings = {"seconds": 2.0, "rounds": 4, "narrow": 0.01, "reference": reference, **options}
    timed = interleave(works, clock.work(1e-3), **settings)
    factors = drift_factors(timed.anchors, reference=reference)
    found = [summarise(v, [factors[i] for i in r], "", 1) for v, r in zip(timed.visits, timed.rounds, strict=True)]
    return timed, found


def test_steady_work_is_measured_exactly(monkeypatch):
    clock = Clock()
    _, found = measured(monkeypatch, clock, [clock.work(3e-3), clock.work(40e-6)])
    assert [item.median for item in found] == pytest.approx([3e-3, 40e-6], rel=2e-3)


def test_a_device_that_slows_down_does_not_change_the_answer(monkeypatch):
    clock = Clock(lambda now: 1.0 + 0.5 * now)
    works = [clock.work(3e-3), clock.work(3e-3)]
    _, found = measured(monkeypatch, clock, works, 1e-3, seconds=1.0, narrow=0.0)
    assert [item.median for item in found] == pytest.approx([3e-3, 3e-3], rel=0.04)
    assert found[0].drift > 0.3


def test_noisy_work_is_measured_longer_and_within_the_time(monkeypatch):
    clock = Clock()
    works = [clock.work(3e-3), clock.work(3e-3, 0.2, random.Random(0))]
    timed, found = measured(monkeypatch, clock, works)
    assert found[1].n > 3 * found[0].n
    assert clock.now < 6.0
    assert timed.rounds[0] == sorted([*range(len(timed.rounds[0]) // 2)] * 2)


def test_the_anchor_alone_is_visited_in_every_round(monkeypatch):
    clock = Clock()
    timed, _ = measured(monkeypatch, clock, [], rounds=7)
    assert timed.anchors == pytest.approx([1e-3] * 7, rel=1e-3)
    assert timed.visits == []


def test_work_of_no_time_at_all_ends_too():
    timed = interleave([lambda: None], lambda: None, seconds=0.05, rounds=2, narrow=0.0)
    assert len(timed.anchors) >= 2
    assert all(value > 0 for visit in timed.visits[0] for value in visit)


def test_garbage_collection_is_as_before_even_after_a_failure():
    def fail():
        assert not gc.isenabled()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interleave([fail], lambda: None, seconds=0.1, rounds=1, narrow=0.0)
    assert gc.isenabled()
