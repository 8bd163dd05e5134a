"""The front against its definition, its area against counting, its file against damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.errors import FileError
from nas.results.front import FrontRow, front_trials, hypervolume, pareto, read_front, undominated, write_front
from nas.search.types import COMPLETE, FAILED, SCREENED, Budgets, Trial
from nas.search_spaces.architecture import Architecture

# A coarse grid makes equal latencies and equal accuracies common.
points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(points)
def test_no_point_of_the_front_dominates_another(found: list[tuple[int, int]]) -> None:
    front = [found[i] for i in pareto(found)]
    assert not any(dominates(a, b) for a in front for b in front)
    assert len(set(front)) == len(front)
    assert front == sorted(front)


@given(points)
def test_what_is_not_on_the_front_is_dominated_or_equal(found: list[tuple[int, int]]) -> None:
    front = pareto(found)
    for i, point in enumerate(found):
        if i not in front:
            assert any(dominates(found[j], point) or found[j] == point for j in front)
        else:
            assert not any(dominates(other, point) for other in found)


@given(points, st.tuples(st.integers(0, 9), st.integers(-1, 8)))
def test_the_hypervolume_is_the_number_of_dominated_unit_squares(
    found: list[tuple[int, int]], reference: tuple[int, int]
) -> None:
    squares = sum(any(x <= i and y >= j + 1 for x, y in found) for i in range(reference[0]) for j in range(reference[1], 9))
    assert hypervolume(found, reference) == pytest.approx(squares)


def rows(architecture: Architecture) -> list[FrontRow]:
    return [
        FrontRow(architecture.digest, 0.9 + i / 30, 0.001 * i + 1e-4 / 3, 0.0009, 0.0013, 1000 * i, 10**7 + i, architecture)
        for i in range(3)
    ]


def test_a_front_is_read_back_exactly(mixed: Architecture, tmp_path: Path) -> None:
    write_front(tmp_path / "front.csv", rows(mixed))
    assert read_front(tmp_path / "front.csv") == rows(mixed)


def test_an_empty_front_is_a_front(tmp_path: Path) -> None:
    write_front(tmp_path / "front.csv", [])
    assert read_front(tmp_path / "front.csv") == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) * 2 // 3],
        lambda text: "a,b,c\n1,2,3\n",
        lambda text: "",
        lambda text: text.replace("0.0013", "fast"),
        lambda text: text.replace('""resolution"":32', '""resolution"":64'),
    ],
)
def test_a_damaged_front_is_refused(damage: object, mixed: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "front.csv"
    write_front(path, rows(mixed))
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(FileError, match=r"front\.csv"):
        read_front(path)


costs = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=20)


@given(costs)
def test_with_any_number_of_objectives_what_is_left_is_what_nothing_dominates(rows: list[tuple[int, ...]]) -> None:
    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    wanted = {row for row in rows if not any(beats(other, row) for other in rows)}
    found = undominated(rows)
    assert [rows[i] for i in found] == sorted(wanted)
    assert all(rows.index(rows[i]) == i for i in found), "the first of equal ones"


def test_a_front_counts_only_what_was_scored_in_full_within_the_budgets(mixed: Architecture) -> None:
    def trial(number: int, accuracy: float, latency: float, macs: float, state: str = COMPLETE) -> Trial:
        return Trial(number, mixed, state, {"accuracy": accuracy, "latency": latency, "macs": macs})

    trials = [
        trial(0, 0.9, 3.0, 5.0), trial(1, 0.8, 2.0, 6.0), trial(2, 0.99, 1.0, 1.0, SCREENED), trial(3, 0.95, 9.0, 1.0),
        trial(4, 0.7, 2.5, 4.0), trial(5, 0.0, 1.0, 1.0, FAILED),
    ]  # fmt: skip
    budgets = Budgets({"latency": 5.0})
    assert [one.number for one in front_trials(trials, budgets, ("accuracy",))] == [1, 0]
    assert [one.number for one in front_trials(trials, budgets, ("accuracy", "macs"))] == [4, 0]
    assert [one.number for one in front_trials(trials, budgets, ("accuracy", "latency", "macs"))] == [1, 4, 0]
    assert [one.number for one in front_trials(trials, Budgets(), ("accuracy", "macs"))] == [3]


def test_further_metrics_have_columns_of_their_own(mixed: Architecture, tmp_path: Path) -> None:
    other = "latency@cpu:onnxruntime,threads=1,batch=1,precision=fp32"
    rows = [FrontRow(mixed.digest, 0.9, 0.1, 0.09, 0.11, 5, 7, mixed, {other: 0.5, "memory": 1e6})]
    write_front(tmp_path / "front.csv", rows)
    assert read_front(tmp_path / "front.csv") == rows
    assert (tmp_path / "front.csv").read_text().splitlines()[0].endswith(f'macs,"{other}",memory,architecture')
