import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import MeasurementError
from nas.predictors.machine import MachineState
from nas.predictors.timings import (
    FELT,
    Measurement,
    Visit,
    drift_factors,
    median_interval,
    noise_reasons,
    spread,
    steady,
    summarise,
    summarise_visits,
    usual_part,
)
from nas.predictors.visits import Series, warm
from nas.predictors.visits import visit as visited


def visits(seed=0, number=40, median=2e-3, noise=0.02, drift=None):
    rng = np.random.default_rng(seed)
    drift = np.ones(number) if drift is None else drift
    return [list(median * factor * np.exp(rng.normal(0, noise, 5))) for factor in drift]


def test_drift_that_the_anchor_shows_is_divided_out():
    slow = np.linspace(1.0, 1.6, 40)
    anchors = 1e-3 * slow
    factors = drift_factors(anchors, reference=1e-3)
    found = summarise(visits(drift=slow**FELT), factors, "cpu:eager", 32)
    assert found.median == pytest.approx(2e-3, rel=0.01)
    assert found.spread < 0.06
    assert found.drift == pytest.approx(np.ptp(slow) / np.median(slow), rel=0.15)


def test_a_single_slow_anchor_changes_nothing():
    anchors = np.full(40, 1e-3)
    anchors[17] = 50e-3
    assert drift_factors(anchors) == [1.0] * 40


def test_outliers_leave_the_median_but_show_in_the_tail():
    data = visits()
    for visit in data[::2]:
        visit[0] *= 20
    found = summarise(data, [1.0] * 40, "t", 32)
    assert found.median == pytest.approx(2e-3, rel=0.02)
    assert found.p99 > 30e-3
    assert found.n == 200


@given(st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_the_interval_is_ordered_and_repeatable(seed):
    values = np.random.default_rng(seed).lognormal(-6, 0.1, 20)
    low, high = median_interval(values, seed)
    assert values.min() <= low <= np.median(values) <= high <= values.max()
    assert median_interval(values, seed) == (low, high)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    hits = 0
    for seed in range(300):
        low, high = median_interval(np.random.default_rng(seed).lognormal(0, 0.2, 25), seed)
        hits += low <= 1.0 <= high
    assert 0.90 <= hits / 300 <= 0.99


def test_the_interval_narrows_with_more_visits():
    few = summarise(visits(number=5, noise=0.1), [1.0] * 5, "t", 32)
    many = summarise(visits(number=200, noise=0.1), [1.0] * 200, "t", 32)
    assert many.precision < few.precision / 2


def test_spread_is_the_interquartile_range_over_the_median():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)


def test_warm_up_ends_when_blocks_agree():
    assert not steady([5.0, 3.0])
    assert not steady([5.0, 3.0, 2.0])
    assert steady([5.0, 2.0, 2.05, 1.98])


def test_warm_up_goes_on_while_blocks_get_faster_and_not_because_a_machine_changes_its_speed():
    restless = [2.0, 2.6, 2.1, 2.9, 2.0, 2.5]
    assert not steady(restless[:5])
    assert steady(restless)
    assert not steady([9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    assert not steady([2.0, 2.6, 2.1, 2.9, 1.8, 2.5])
    assert steady([2.0, 2.6, 2.1, 2.9, 1.8, 2.5, 2.3, 1.75])


def test_mapping_round_trip_and_refusal():
    found = summarise(visits(), [1.0] * 40, "cpu:eager", 32)
    assert Measurement.from_mapping(found.to_mapping()) == found
    with pytest.raises(MeasurementError, match="not a measurement"):
        Measurement.from_mapping({"median": 1.0})


@pytest.mark.parametrize("bad", [[], [[]], [[1e-3, 0.0]], [[1e-3, float("nan")]]])
def test_nothing_and_nonsense_are_refused(bad):
    with pytest.raises(MeasurementError):
        summarise(bad, [1.0] * len(bad), "t", 32)


def test_interrupted_visits_do_not_count_for_the_median_where_enough_others_do():
    taken = [[1e-3] * 3] * 4 + [[5e-3] * 3] * 6
    flags = [False] * 4 + [True] * 6
    found = summarise(taken, [1.0] * 10, "", 1, disturbed=flags)
    assert (found.median, found.high, found.disturbed) == (1e-3, 1e-3, 0.6)
    assert found.p90 == 5e-3
    assert found.n == 30
    few = summarise(taken[1:], [1.0] * 9, "", 1, disturbed=flags[1:])
    assert few.median == 5e-3


def anchors(*seconds):
    return [Visit(0.0, number, (one,), 0, MachineState()) for number, one in enumerate(seconds)]


def test_recorded_visits_bring_load_and_throttling_with_them():
    states = [MachineState(load=3.0, throttles=4), MachineState(load=5.0, throttles=6)]
    taken = [Visit(0.0, number, (1e-3, 1e-3), 0, state) for number, state in enumerate(states)]
    found = summarise_visits(taken, anchors(1e-3, 2e-3), "", 1, reference=1e-3)
    assert (found.load, found.throttled, found.slowed, found.anchor) == (4.0, True, 1.5, 1.5e-3)
    assert not summarise_visits(taken[:1], anchors(1e-3), "", 1).throttled
    assert not found.unsettled
    assert summarise_visits([taken[0], replace(taken[1], settled=False)], anchors(1e-3, 1e-3), "", 1).unsettled


def test_a_run_is_told_by_the_anchor_around_it_where_it_was_taken_and_else_by_that_of_its_round():
    slow = 2e-3 * 4**FELT
    alone = [Visit(0.0, 0, (2e-3, slow, slow), 0, MachineState())]
    beside = [replace(alone[0], beside=(1e-3, 4e-3, 4e-3))]
    assert summarise_visits(alone, anchors(2e-3), "cpu:eager", 1, reference=1e-3).median == pytest.approx(slow / 2**FELT)
    found = summarise_visits(beside, anchors(2e-3), "cpu:eager", 1, reference=1e-3)
    assert (found.median, found.slowed) == pytest.approx((2e-3, 2.0))
    assert summarise_visits(beside, anchors(2e-3), "cpu:eager", 1).median == pytest.approx(2e-3 * 2**FELT)


def test_a_network_on_a_slower_machine_does_not_pass_for_a_faster_one():
    """What slows the anchor by 1.4 slows the network by less: divided by all of it, it would be told a tenth too fast."""
    taken = [Visit(0.0, number, (4e-3 * 1.4**FELT,) * 3, 0, MachineState(), beside=(1.4e-3,) * 3) for number in range(8)]
    found = summarise_visits(taken, anchors(*[1.4e-3] * 8), "cpu:eager", 1, reference=1e-3)
    assert (found.median, found.high, found.p99, found.slowed) == pytest.approx((4e-3, 4e-3, 4e-3, 1.4))


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("cpu:eager,threads=1", FELT),
        ("cpu:onnxruntime,batch=8", FELT),
        ("cuda:eager", 1.0),
        ("cpu:onnxruntime@192.168.1.20:7070", 1.0),
        ("cpu:eager@ray:pi", FELT),
    ],
)
def test_other_devices_and_places_feel_all_of_what_slows_their_anchor(target, part):
    """Where a clock changes, network and anchor are slowed alike; what they feel of a shared host was measured on CPUs."""
    assert usual_part(target) == part
    taken = [Visit(0.0, number, (4e-3,) * 3, 0, MachineState(), beside=(2e-3,) * 3) for number in range(8)]
    found = summarise_visits(taken, anchors(*[2e-3] * 8), target, 1, reference=1e-3)
    assert (found.median, found.p90) == pytest.approx((4e-3 / 2**part, 4e-3 / 2**part))
    assert found.scaled(2.0).median == pytest.approx(4e-3)


def test_a_network_is_told_by_what_those_of_its_table_feel_of_the_anchors_slowness():
    taken = [Visit(0.0, number, (3e-3 * 1.4**1.1,) * 3, 0, MachineState(), beside=(1.4e-3,) * 3) for number in range(8)]
    found = summarise_visits(taken, anchors(*[1.4e-3] * 8), "cpu:eager", 1, reference=1e-3, part=1.1)
    assert (found.median, found.low, found.p99, found.slowed) == pytest.approx((3e-3, 3e-3, 3e-3, 1.4))
    assert (found.part, found.felt) == (1.1, 1.1)
    again = replace(found, quiet=3e-3).scaled(1.4, 0.9)
    assert (again.median, again.quiet) == pytest.approx((3e-3 * 1.4**1.1, 3e-3 * 1.4**0.9))


def test_a_warm_up_that_never_settles_is_told():
    growing = itertools.count(1)
    restless, calm = Series(lambda: time.sleep(5e-4 * 1.05 ** next(growing))), Series(lambda: time.sleep(5e-3))
    for item in (restless, calm):
        warm(item)
        visited(item, 0, MachineState())
    assert summarise_visits(restless.visits, anchors(1e-3), "", 1).unsettled
    assert not summarise_visits(calm.visits, anchors(1e-3), "", 1).unsettled


def test_noise_has_its_reasons():
    quiet = summarise([[1e-3]] * 5, [1.0] * 5, "", 1)
    assert noise_reasons(quiet, cores=2) == []
    loud = replace(quiet, load=5.0, disturbed=0.9, throttled=True, slowed=1.4, drift=0.5, unsettled=True)
    reasons = noise_reasons(loud, cores=2)
    for part in (
        "load average 5.0 on 2 cores",
        "interrupted 90%",
        "throttled by heat",
        "1.40 times slower",
        "drifted by 50%",
        "end of the warm-up",
    ):
        assert any(part in reason for reason in reasons)
    assert len(reasons) == 6


def test_measurements_of_older_files_are_read_without_what_they_do_not_have():
    found = summarise([[1e-3]] * 5, [1.0] * 5, "", 1)
    data = found.to_mapping()
    for name in ("disturbed", "slowed", "load", "throttled", "unsettled"):
        del data[name]
    assert Measurement.from_mapping(data) == found
    del data["median"]
    with pytest.raises(MeasurementError):
        Measurement.from_mapping(data)
