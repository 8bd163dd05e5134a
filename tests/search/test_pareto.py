from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import (
    constrained_dominates,
    crowding_distance,
    dominates,
    first_front,
    hypervolume_2d,
    hypervolume_3d,
    non_dominated_sort,
)

value = st.integers(0, 6).map(float)
points = st.integers(1, 3).flatmap(lambda m: st.lists(st.tuples(*[value] * m), min_size=1, max_size=25))
flat_points = st.lists(st.tuples(value, value), max_size=20)
solid_points = st.lists(st.tuples(value, value, value), max_size=20)


@given(points)
def test_domination_is_irreflexive_and_asymmetric(costs):
    for a in costs:
        assert not dominates(a, a)
        for b in costs:
            assert not (dominates(a, b) and dominates(b, a))


@given(points, st.data())
def test_every_index_is_in_one_front_and_each_front_is_beaten_by_the_one_before(costs, data):
    broken = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 2.0]), min_size=len(costs), max_size=len(costs)))
    fronts = non_dominated_sort(costs, broken)

    def beats(i, j):
        return constrained_dominates(costs[i], broken[i], costs[j], broken[j])

    assert sorted(i for front in fronts for i in front) == list(range(len(costs)))
    for front in fronts:
        assert not any(beats(i, j) for i in front for j in front)
    for before, front in itertools.pairwise(fronts):
        assert all(any(beats(i, j) for i in before) for j in front)


def test_the_feasible_dominate_the_infeasible_however_good():
    assert constrained_dominates((9.0, 9.0), 0.0, (1.0, 1.0), 0.1)
    assert not constrained_dominates((1.0, 1.0), 0.1, (9.0, 9.0), 0.0)
    assert non_dominated_sort([(1.0, 1.0), (9.0, 9.0), (0.0, 0.0)], [0.1, 0.0, 0.2]) == [[1], [0], [2]]


def test_crowding_is_infinite_at_the_ends_and_the_relative_gap_between():
    assert crowding_distance([(0.0, 4.0), (1.0, 2.0), (4.0, 0.0)]) == [math.inf, pytest.approx(2.0), math.inf]
    assert crowding_distance([(0.0, 10.0), (1.0, 9.0), (2.0, 1.0), (10.0, 0.0)])[1] == pytest.approx(0.2 + 0.9)
    assert crowding_distance([]) == []
    assert crowding_distance([(1.0, 1.0)]) == [math.inf]


@given(flat_points)
def test_the_hypervolume_is_the_area_of_the_dominated_cells(costs):
    reference = (5.0, 5.0)
    cells = sum(any(x <= i and y <= j for x, y in costs) for i in range(5) for j in range(5))
    assert hypervolume_2d(costs, reference) == pytest.approx(cells)


@given(flat_points, st.tuples(value, value))
def test_a_further_point_never_shrinks_the_hypervolume(costs, point):
    reference = (5.0, 5.0)
    assert hypervolume_2d([*costs, point], reference) >= hypervolume_2d(costs, reference) - 1e-12


@given(solid_points)
def test_the_hypervolume_of_three_costs_is_the_volume_of_the_dominated_cells(costs):
    cells = itertools.product(range(5), repeat=3)
    dominated = sum(any(all(a <= b for a, b in zip(point, cell, strict=True)) for point in costs) for cell in cells)
    assert hypervolume_3d(costs, (5.0, 5.0, 5.0)) == pytest.approx(dominated)


@given(points)
def test_the_first_front_is_that_of_the_sorting_with_one_of_equal_points(costs):
    found = first_front(np.array(costs))
    assert found == sorted(found)
    assert {costs[i] for i in found} == {costs[i] for i in non_dominated_sort(costs)[0]}
    assert len({costs[i] for i in found}) == len(found)
