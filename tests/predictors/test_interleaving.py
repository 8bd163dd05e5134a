import gc
import os
import random

import pytest
from simulated_clock import Clock

from nas.predictors import visits
from nas.predictors.interleaving import Effort, interleave
from nas.predictors.timings import FELT, summarise_visits
from nas.predictors.visits import RunFailedError, Series

ANCHOR = 1e-3


@pytest.fixture
def measured(monkeypatch):
    """Measures works of a simulated clock; gives the series, the anchor's series and the measurements."""

    def start(clock, works, reference=None, cold=0.0, **effort):
        monkeypatch.setattr("time.perf_counter", clock)
        monkeypatch.setattr(visits, "_OVERHEAD", [5e-8])
        series, anchor = [Series(run, number) for number, run in enumerate(works)], Series(clock.anchor(ANCHOR, cold=cold))
        interleave(series, anchor, 1, Effort(**effort), reference, FELT)
        found = [summarise_visits(item.visits, anchor.visits, "cpu:eager", 1, reference=reference) for item in series]
        return series, anchor, found

    return start


def test_a_machine_that_changes_its_speed_within_a_round_does_not_change_the_answer(measured):
    clock = Clock(lambda now: 1.6 if int(now / 0.05) % 2 else 1.0)
    _, _, found = measured(clock, [clock.work(3e-3), clock.work(9e-3)], ANCHOR, seconds=1.0, precision=0.0)
    assert [item.median for item in found] == pytest.approx([3e-3, 9e-3], rel=1e-2)


def test_each_run_is_kept_with_the_anchor_just_around_it(measured):
    clock = Clock(lambda now: 1.0 + now)
    series, _, _ = measured(clock, [clock.work(3e-3), clock.work(2e-4)], seconds=0.2)
    for item, seconds in zip(series, (3e-3, 2e-4), strict=True):
        for visit in item.visits:
            assert len(visit.beside) == len(visit.seconds) >= 3
            ratios = [
                one / beside**FELT * ANCHOR ** (FELT - 1) for one, beside in zip(visit.seconds, visit.beside, strict=True)
            ]
            assert ratios == pytest.approx([seconds / ANCHOR] * len(ratios), rel=5e-3)


def test_neither_the_anchor_nor_cheap_work_is_timed_with_cold_caches(measured):
    clock = Clock()
    (item, _), anchor, found = measured(clock, [clock.work(4e-4, cold=4e-4), clock.work(3e-3)], cold=ANCHOR, seconds=0.2)
    assert {round(beside, 6) for visit in item.visits for beside in visit.beside} == {ANCHOR}
    assert [one.median for one in found] == pytest.approx([4e-4, 3e-3], rel=5e-3)
    assert max(value for visit in item.visits for value in visit.seconds) < 4.1e-4
    assert anchor.visits[0].seconds[0] == pytest.approx(ANCHOR, rel=1e-3)


def test_cheap_work_shares_an_anchor_and_dear_work_has_one_a_run(measured):
    clock = Clock(lambda now: 1.0 + now)
    (dear, cheap), _, _ = measured(clock, [clock.work(3e-3), clock.work(2e-4)], seconds=0.2)
    assert all(len(set(visit.beside)) == len(visit.beside) for visit in dear.visits)
    assert all(3 <= len(visit.seconds) / len(set(visit.beside)) <= 16 for visit in cheap.visits)


def test_the_anchor_alone_is_visited_once_a_round(measured):
    clock = Clock()
    _, anchor, found = measured(clock, [], rounds=7)
    assert [visit.round for visit in anchor.visits] == list(range(7))
    assert anchor.visits[0].seconds[0] == pytest.approx(ANCHOR, rel=1e-3)
    assert found == []


def test_work_of_no_time_at_all_ends_too():
    item = Series(lambda: None, 0)
    interleave([item], Series(lambda: None), 1, Effort(seconds=0.05, rounds=2, precision=0.0))
    assert len(item.visits) >= 4
    assert all(value > 0 for visit in item.visits for value in visit.seconds)


def test_noisy_work_is_measured_longer_and_within_the_time(measured):
    clock = Clock()
    works = [clock.work(3e-3), clock.work(3e-3, 0.2, random.Random(0))]
    (steady, _), _, found = measured(clock, works, seconds=1.0)
    assert found[1].n > 2 * found[0].n
    assert clock.now < 4.0
    numbers = [visit.round for visit in steady.visits]
    assert numbers == sorted([*range(len(numbers) // 2)] * 2)


def test_a_run_that_fails_is_named_and_everything_is_as_before():
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def fail():
        assert not gc.isenabled()
        raise RuntimeError("broken\nin two lines")

    with pytest.raises(RunFailedError, match="broken in two lines") as caught:
        interleave([Series(lambda: None, 0), Series(fail, 1)], Series(lambda: None), 1, Effort())
    assert caught.value.position == 1
    assert gc.isenabled()
    assert before is None or os.sched_getaffinity(0) == before
