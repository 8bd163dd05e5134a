"""The figures that `nas bench search` reports of its runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.results.bench_search import curve_plot, mean_interval


def test_the_interval_of_few_values_is_students():
    mean, half = mean_interval(np.array([1.0, 2.0, 4.0, np.nan]))
    assert mean == pytest.approx(7.0 / 3.0)
    assert half == pytest.approx(4.302653 * np.std([1.0, 2.0, 4.0], ddof=1) / math.sqrt(3.0))


def test_a_single_value_has_no_interval():
    assert mean_interval(np.array([3.0]))[0] == 3.0
    assert math.isnan(mean_interval(np.array([3.0]))[1])
    assert np.isnan(mean_interval(np.array([np.nan]))).all()


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    pairs = [mean_interval(rng.normal(size=4)) for _ in range(2000)]
    assert np.mean([abs(mean) <= half for mean, half in pairs]) == pytest.approx(0.95, abs=0.02)


class Toy:
    kind, name, budget, optimum, objective = "best", "toy", None, 2.0, "acc"


def test_the_curve_of_a_single_seed_is_in_its_plot():
    from nas.results.bench_search import _extent

    curve = np.linspace(0.0, 1.0, 20)
    low, high = _extent(Toy, {"random": (curve, np.full(20, np.nan))})  # type: ignore[arg-type]
    assert low < curve[2] < 2.0 < high
    assert curve_plot(Toy, {"random": (curve, np.full(20, np.nan))}).startswith("<")  # type: ignore[arg-type]
