import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import MeasurementError
from nas.predictors.timings import Measurement, drift_factors, median_interval, spread, steady, summarise


def visits(seed=0, number=40, median=2e-3, noise=0.02, drift=None):
    rng = np.random.default_rng(seed)
    drift = np.ones(number) if drift is None else drift
    return [list(median * factor * np.exp(rng.normal(0, noise, 5))) for factor in drift]


def test_drift_that_the_anchor_shows_is_divided_out():
    slow = np.linspace(1.0, 1.6, 40)
    anchors = 1e-3 * slow
    factors = drift_factors(anchors, reference=1e-3)
    found = summarise(visits(drift=slow), factors, "t", 32)
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


def test_mapping_round_trip_and_refusal():
    found = summarise(visits(), [1.0] * 40, "cpu:eager", 32)
    assert Measurement.from_mapping(found.to_mapping()) == found
    with pytest.raises(MeasurementError, match="not a measurement"):
        Measurement.from_mapping({"median": 1.0})


@pytest.mark.parametrize("bad", [[], [[]], [[1e-3, 0.0]], [[1e-3, float("nan")]]])
def test_nothing_and_nonsense_are_refused(bad):
    with pytest.raises(MeasurementError):
        summarise(bad, [1.0] * len(bad), "t", 32)
