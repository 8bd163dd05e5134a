import gc
import random

import pytest
import torch
from simulated_clock import Clock
from torch import nn

from nas.errors import MeasurementError, UsageError
from nas.predictors import measure as measuring
from nas.predictors import visits
from nas.predictors.environment import environment
from nas.predictors.interleaving import Effort
from nas.predictors.measure import measure, measure_many, measure_runs
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.predictors.timings import FELT, Speed
from nas.predictors.visits import RunFailedError

TARGET = Target()
SPEED = Speed(1e-3, FELT)


@pytest.fixture
def simulate(monkeypatch):
    def start(clock):
        monkeypatch.setattr("time.perf_counter", clock)
        monkeypatch.setattr(visits, "_OVERHEAD", [5e-8])
        monkeypatch.setattr(measuring, "anchor", lambda target: clock.anchor(1e-3))
        return clock

    return start


def test_steady_work_is_measured_exactly(simulate):
    clock = simulate(Clock())
    found = measure_runs([clock.work(3e-3), clock.work(20e-6)], TARGET, [32, 32], effort=Effort())
    assert [item.median for item in found] == pytest.approx([3e-3, 20e-6], rel=2e-3)
    assert found[0].precision < 1e-6


def test_a_machine_that_slows_down_does_not_change_the_answer(simulate):
    clock = simulate(Clock(lambda now: 1.0 + 0.5 * now))
    effort = Effort(seconds=1.0, precision=0.0)
    found = measure_runs([clock.work(3e-3), clock.work(3e-3)], TARGET, [32, 32], effort=effort, speed=SPEED)
    assert [item.median for item in found] == pytest.approx([3e-3, 3e-3], rel=0.04)
    assert found[0].drift > 0.3


def test_noisy_work_is_measured_longer_than_steady_work(simulate):
    clock = simulate(Clock())
    noisy = clock.work(3e-3, 0.2, random.Random(0))
    steady, loud = measure_runs([clock.work(3e-3), noisy], TARGET, [32, 32], effort=Effort(seconds=2.0))
    assert loud.n > 3 * steady.n
    assert loud.low <= 3e-3 <= loud.high


def test_the_time_budget_holds(simulate):
    clock = simulate(Clock())
    before = clock.now
    measure_runs([clock.work(3e-3, 0.5, random.Random(0))], TARGET, [32], effort=Effort(seconds=0.5, precision=0.0))
    assert 0.5 <= clock.now - before < 1.2


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_network_that_is_slower_than_the_time_allows_gets_its_rounds_nevertheless(simulate, rounds):
    clock, seen = simulate(Clock()), {}
    effort = Effort(seconds=0.01, rounds=rounds)
    measure_runs([clock.work(1.0)], TARGET, [32], effort=effort, watch=lambda at, visits: seen.update({at: visits}))
    assert [visit.round for visit in seen[0]] == sorted([*range(rounds)] * 2)


def test_the_anchor_is_kept_beside_what_was_measured_and_brings_it_to_another_speed(simulate):
    clock = simulate(Clock(lambda now: 2.0))
    (found,) = measure_runs([clock.work(3e-3)], TARGET, [32], effort=Effort())
    assert (found.median, found.anchor) == pytest.approx((2**FELT * 3e-3, 2e-3), rel=2e-3)
    brought = found.scaled(0.5)
    assert (brought.median, brought.high, brought.slowed) == pytest.approx((3e-3, 3e-3, 2.0), rel=2e-3)


def test_a_network_is_told_at_the_speed_of_a_table_by_what_its_networks_feel(simulate, monkeypatch):
    clock = simulate(Clock(lambda now: 1.5))
    monkeypatch.setattr(measuring, "prepare", lambda *_: clock.work(3e-3, felt=1.1))
    for part, factor in ((1.1, 1.0), (FELT, 1.5 ** (1.1 - FELT))):
        (found,) = measure_many([nn.Identity()], TARGET, 8, speed=Speed(1e-3, part))
        assert (found.median, found.high, found.slowed) == pytest.approx((factor * 3e-3, factor * 3e-3, 1.5), rel=2e-3)
        assert found.felt == part


def test_noise_is_refused_unless_accepted(simulate, monkeypatch):
    clock = simulate(Clock())
    rng = random.Random(0)
    monkeypatch.setattr(measuring, "prepare", lambda *rest: clock.work(3e-3, 0.6, rng))
    with pytest.raises(MeasurementError, match=r"spread by \d+% .*: .*; let the machine rest .* accept the noise"):
        measure(nn.Identity(), TARGET, 32)
    assert measure(nn.Identity(), TARGET, 32, accept_noise=True).spread > 0.25


def test_threads_and_garbage_collection_are_as_before_even_after_a_failure(simulate):
    clock = simulate(Clock())
    before = torch.get_num_threads()

    def fail():
        assert not gc.isenabled()
        assert torch.get_num_threads() == before + 1
        raise MeasurementError("broken")

    clock.work(1.0)
    with pytest.raises(MeasurementError, match="broken"):
        measure_runs([fail], Target(threads=before + 1), [32], effort=Effort())
    assert gc.isenabled()
    assert torch.get_num_threads() == before


def test_every_visit_is_handed_on_with_its_round_and_the_machine(simulate):
    clock, seen = simulate(Clock()), {}
    works = [clock.work(3e-3), clock.work(1e-3)]
    measure_runs(works, TARGET, [32, 32], effort=Effort(rounds=2), watch=lambda at, visits: seen.update({at: visits}))
    assert seen.keys() == {None, 0, 1}
    assert len(seen[0]) == len(seen[1]) == 2 * len(seen[None])
    assert [visit.round for visit in seen[1]] == [0, 0, 1, 1]
    assert all(seconds == pytest.approx(3e-3, rel=1e-3) for visit in seen[0] for seconds in visit.seconds)
    assert {visit.state for visit in seen[None]} == {visit.state for visit in seen[0]}


def test_a_run_that_fails_is_named_by_its_place_and_what_was_measured_before_is_handed_on(simulate):
    clock, seen, left = simulate(Clock()), {}, [60]
    work = clock.work(3e-3)

    def fail():
        left[0] -= 1
        if left[0] < 0:
            raise OSError("cable out\nmore")
        work()

    effort = Effort(seconds=9.0, precision=0.0)
    with pytest.raises(RunFailedError, match=r"cable out more$") as caught:
        measure_runs([work, fail], TARGET, [32, 32], effort=effort, watch=lambda at, visits: seen.update({at: visits}))
    assert caught.value.position == 1
    assert seen[0]
    assert seen[1]


def test_a_machine_that_is_slower_than_the_reference_is_waited_for_a_bounded_time(simulate, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    clock = simulate(Clock(lambda now: 2.0 if len(waited) < 3 else 1.0))
    effort = Effort(cooling=5.0)
    found = measure_runs([clock.work(3e-3)], TARGET, [32], effort=effort, speed=SPEED)[0]
    assert len(waited) == 3
    assert found.slowed == pytest.approx(1.0, rel=1e-2)
    waited.clear()
    slow = simulate(Clock(lambda now: 2.0))
    found = measure_runs([slow.work(3e-3)], TARGET, [32], effort=Effort(cooling=0.0), speed=SPEED)[0]
    assert not waited
    assert found.slowed == pytest.approx(2.0, rel=1e-2)
    assert found.median == pytest.approx(3e-3, rel=1e-2)


def test_threads_are_restored():
    before = torch.get_num_threads()
    with threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


def test_a_real_network_has_a_measurement_of_its_target():
    small, large = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3))
    effort = Effort(seconds=0.1)
    found = measure_many([small, large], TARGET, [16, 32], effort=effort)
    assert [item.resolution for item in found] == [16, 32]
    assert all(0 < item.low <= item.median <= item.high for item in found)
    assert {item.target for item in found} == {str(TARGET)}


def test_nothing_to_measure_is_nothing():
    assert measure_many([], TARGET, 32) == []


@pytest.mark.parametrize("bad", [{"seconds": 0.0}, {"rounds": 0}, {"precision": -1.0}])
def test_an_impossible_effort_is_refused(bad):
    with pytest.raises(UsageError):
        Effort(**bad)


def test_the_environment_names_versions_and_cpu():
    found = environment("onnxruntime")
    assert found["torch"] == torch.__version__
    assert found["runtime"].startswith("onnxruntime ")
    assert found["cpu"]


@pytest.mark.parametrize("seconds", [3e-4, 1.5e-3, 4e-3, 1.2e-2])
def test_what_the_anchor_left_in_the_caches_does_not_count(simulate, seconds):
    clock = simulate(Clock())
    found = measure_runs([clock.work(seconds, cold=seconds / 2)], TARGET, [32], effort=Effort(seconds=1.0))[0]
    assert found.median == pytest.approx(seconds, rel=1e-3)
