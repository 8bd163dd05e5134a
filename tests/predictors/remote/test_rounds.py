import gc
import os
import random

import pytest

from nas.predictors import measure, visits
from nas.predictors.measure import Effort, measure_runs
from nas.predictors.remote.agent import rounds
from nas.predictors.remote.agent.jobs import Job
from nas.predictors.remote.agent.rounds import NetworkFailedError, anchor_factors, interleave
from nas.predictors.target import Target
from nas.predictors.timings import summarise_visits


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


def job(**options):
    fields = {"seconds": 2.0, "rounds": 4, "narrow": 0.01, **options}
    return Job("0" * 32, "cpu", "toy", "fp32", 1, (), **fields)


def measured(monkeypatch, clock, works, **options):
    monkeypatch.setattr("time.perf_counter", clock)
    monkeypatch.setattr(rounds, "clock_overhead", lambda: 5e-8)
    monkeypatch.setattr(rounds, "interruptions", lambda: None)
    wanted = job(**options)
    timed = interleave(works, clock.work(1e-3), wanted)
    factors = anchor_factors(timed.anchor, wanted.reference)
    return timed, [summarise_visits(visits, factors, "", 1) for visits in timed.visits]


def test_steady_work_is_measured_exactly(monkeypatch):
    clock = Clock()
    _, found = measured(monkeypatch, clock, [clock.work(3e-3), clock.work(40e-6)])
    assert [item.median for item in found] == pytest.approx([3e-3, 40e-6], rel=2e-3)


def test_an_agent_measures_as_this_machine_does(monkeypatch):
    def works(clock):
        return [clock.work(3e-3, 0.1, random.Random(0)), clock.work(40e-6), clock.work(0.5)]

    there, _ = measured(monkeypatch, clock := Clock(), works(clock), seconds=0.2, rounds=3)
    monkeypatch.setattr("time.perf_counter", clock := Clock())
    monkeypatch.setattr(visits, "_OVERHEAD", [5e-8])
    monkeypatch.setattr(measure, "anchor", lambda target: clock.work(1e-3))
    here = {}
    effort = Effort(seconds=0.2, rounds=3, precision=0.01)
    measure_runs(works(clock), Target(), [1, 1, 1], effort=effort, watch=lambda at, found: here.update({at: found}))
    for found, same in zip((*there.visits, there.anchor), (here[0], here[1], here[2], here[None]), strict=True):
        assert [visit.round for visit in found] == [visit.round for visit in same]
        assert [visit.seconds for visit in found] == [pytest.approx(visit.seconds, rel=1e-6) for visit in same]


def test_a_device_that_slows_down_does_not_change_the_answer(monkeypatch):
    clock = Clock(lambda now: 1.0 + 0.5 * now)
    works = [clock.work(3e-3), clock.work(3e-3)]
    _, found = measured(monkeypatch, clock, works, reference=1e-3, seconds=1.0, narrow=0.0)
    assert [item.median for item in found] == pytest.approx([3e-3, 3e-3], rel=0.04)
    assert found[0].drift > 0.3


def test_noisy_work_is_measured_longer_and_within_the_time(monkeypatch):
    clock = Clock()
    works = [clock.work(3e-3), clock.work(3e-3, 0.2, random.Random(0))]
    timed, found = measured(monkeypatch, clock, works, seconds=1.0)
    assert found[1].n > 2 * found[0].n
    assert clock.now < 4.0
    numbers = [visit.round for visit in timed.visits[0]]
    assert numbers == sorted([*range(len(numbers) // 2)] * 2)


def test_the_anchor_alone_is_visited_in_every_round(monkeypatch):
    clock = Clock()
    timed, _ = measured(monkeypatch, clock, [], rounds=7)
    assert [visit.round for visit in timed.anchor] == list(range(7))
    assert timed.anchor[0].seconds[0] == pytest.approx(1e-3, rel=1e-3)
    assert timed.visits == []


def test_work_of_no_time_at_all_ends_too():
    timed = interleave([lambda: None], lambda: None, job(seconds=0.05, rounds=2, narrow=0.0))
    assert len(timed.anchor) >= 2
    assert all(value > 0 for visit in timed.visits[0] for value in visit.seconds)


def test_a_hot_device_is_given_time_to_cool_down(monkeypatch):
    clock, waits = Clock(lambda now: 2.0 if len(waits) < 3 else 1.0), []
    monkeypatch.setattr("time.sleep", waits.append)
    timed, _ = measured(monkeypatch, clock, [clock.work(3e-3)], reference=1e-3, cooling=30.0)
    assert len([seconds for seconds in waits if seconds == 1.0]) >= 3
    assert [visit.round for visit in timed.anchor] == list(range(len(timed.anchor)))
    assert timed.anchor[0].seconds[0] == pytest.approx(1e-3, rel=1e-3)


def test_a_run_that_fails_is_named_and_everything_is_as_before():
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def fail():
        assert not gc.isenabled()
        raise RuntimeError("broken\nin two lines")

    with pytest.raises(NetworkFailedError, match="broken in two lines") as caught:
        interleave([lambda: None, fail], lambda: None, job())
    assert caught.value.position == 1
    assert gc.isenabled()
    assert before is None or os.sched_getaffinity(0) == before
