"""The benchmark of NSGA-II against pymoo's: its problems, its operators, its figures, and one run of each kind."""

from __future__ import annotations

import importlib
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = (ROOT / "docs" / "search-benchmark.md").read_text(encoding="utf-8")
REFERENCE = json.loads((RESULTS / "moo_pymoo.json").read_text())
FOUND = json.loads((RESULTS / "moo.json").read_text())
NAMES = sorted(REFERENCE["problems"])
vectors = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).map(tuple)


@pytest.fixture(scope="module")
def moo():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("moo")


@pytest.fixture(scope="module")
def cube(moo):
    return moo.Cube("cube", 4)


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_is_pymoos(moo, name):
    moo.check(name, REFERENCE["problems"][name])


def test_a_problem_with_another_constraint_is_told(moo):
    stored = REFERENCE["problems"]["mw3"]
    with pytest.raises(AssertionError, match="mw3"):
        moo.check("mw3", {**stored, "constraints": [[g + 0.5 for g in row] for row in stored["constraints"]]})


@given(vectors, vectors, st.integers(0, 2**32))
def test_the_children_of_a_crossing_lie_in_the_cube_on_either_side_of_the_middle(moo, cube, x, y, seed):
    first, second = moo.Point(x), moo.Point(y)
    child, sibling = (cube.crossover(*pair, random.Random(seed)) for pair in ((first, second), (second, first)))
    for a, b, c, d in zip(x, y, child.x, sibling.x, strict=True):
        assert 0.0 <= min(c, d) <= (a + b) / 2 + 1e-12
        assert (a + b) / 2 - 1e-12 <= max(c, d) <= 1.0
        assert abs(a - b) > 1e-14 or (c, d) == (a, b)


@given(vectors, st.integers(0, 2**32))
def test_a_mutant_differs_and_lies_in_the_cube(moo, cube, x, seed):
    mutant = cube.mutate(moo.Point(x), random.Random(seed))
    assert mutant != moo.Point(x)
    assert all(0.0 <= value <= 1.0 for value in mutant.x)


def test_the_interval_of_the_ratio_narrows_with_runs_and_holds_what_is_known(moo):
    draws = random.Random(0)
    ours, theirs = ([draws.gauss(mean, 0.1) for _ in range(400)] for mean in (1.1, 1.0))
    low, high = moo.interval(ours, theirs)
    assert low < 1.1 < high
    assert high - low == pytest.approx(2 * 1.96 * math.hypot(0.1, 0.11) / 20, rel=0.1)
    few = moo.interval(ours[:25], theirs[:25])
    assert few[1] - few[0] > 2.5 * (high - low)
    assert moo.interval([2.0, 2.0], [1.0, 1.0]) == (2.0, 2.0)


def test_the_docs_hold_the_table_of_the_file(moo):
    assert DOCS.split(moo.BEGIN)[1].split(moo.END)[0].strip().splitlines() == moo.table(FOUND)


def test_both_programs_played_the_same_settings_and_seeds():
    asked = [(row["problem"], row["evaluations"], row["population"], row["hypervolumes"]) for row in REFERENCE["runs"]]
    assert asked == [(row["problem"], row["evaluations"], row["population"], row["pymoo"]) for row in FOUND["runs"]]
    assert all(len(row["ours"]) == len(row["pymoo"]) >= 12 for row in FOUND["runs"])
    assert {name for name, *_ in asked} == set(NAMES)


@pytest.mark.parametrize(("problem", "least"), [("zdt1", 0.98), ("dtlz2", 0.995)])
def test_a_run_is_as_good_as_pymoos(moo, problem, least):
    (row,) = (row for row in FOUND["runs"] if row["problem"] == problem)
    volume = moo.front_volume(problem, 0, row["evaluations"], row["population"], tuple(FOUND["about"]["reference"]))
    assert volume > least * sum(row["pymoo"]) / len(row["pymoo"])
