from dataclasses import replace

import pytest
from known_machine import SPACE, made_table

from nas.errors import FileError, InfeasibleError
from nas.predictors.cost import cost
from nas.predictors.environment import environment
from nas.predictors.target import Target
from nas.results.feasibility import fastest, require_latency, require_table, slowest, span_remark
from nas.search_spaces.presets import load_space


@pytest.fixture(scope="module")
def ends():
    def silent(done, total, words):
        pass

    return fastest(SPACE, Target(), 1, 10, silent), slowest(SPACE, Target(), 1, 10, silent)


def test_the_slowest_member_is_large_and_slower_than_the_fastest(ends):
    quick, slow = ends
    assert SPACE.contains(slow.architecture)
    assert slow.measurement.median > 3 * quick.measurement.median
    assert cost(slow.architecture, in_channels=1).macs > 10 * cost(quick.architecture, in_channels=1).macs


def test_the_span_says_where_a_budget_leaves_nothing_out(ends):
    quick, slow = ends
    told = span_remark(quick, slow, None, SPACE, Target())
    assert "'tiny'" in told
    assert "leaves nothing out" not in told
    assert "leaves nothing out" in span_remark(quick, slow, 2 * slow.measurement.high, SPACE, Target())
    with pytest.raises(InfeasibleError, match=r"no architecture of space 'tiny'.* \(\+\d+%\)") as caught:
        require_latency(quick, quick.measurement.low / 2, SPACE, Target())
    assert caught.value.closest == quick.architecture


@pytest.fixture
def saved(tmp_path):
    table = made_table(census=20)
    table.environment = environment()

    def save(**changes):
        replace(table, **changes).save(tmp_path / "t.json")
        return tmp_path / "t.json"

    return save


def test_a_table_that_fits_is_taken(saved):
    assert require_table(saved(), Target(), 10, 3, SPACE) == []


def test_the_table_of_another_machine_or_library_is_refused(saved):
    for name in ("cpu", "torch", "runtime"):
        other = environment() | {name: "another"}
        with pytest.raises(FileError, match=f"measured elsewhere: {name} was another"):
            require_table(saved(environment=other), Target(), 10, 3, SPACE)


def test_the_table_of_another_space_is_told_or_refused(saved):
    assert "is of space 'small'" in require_table(saved(space="small"), Target(), 10, 3, SPACE)[0]
    with pytest.raises(FileError, match=r"has no times of .*profile space 'mobile'"):
        require_table(saved(), Target(), 10, 3, load_space("mobile"))


@pytest.mark.parametrize(("changes", "said"), [({"num_classes": 5}, "of 5 classes"), ({"networks": {}}, "has 0 networks")])
def test_other_networks_and_too_few_are_refused(saved, changes, said):
    with pytest.raises(FileError, match=said):
        require_table(saved(**changes), Target(), 10, 3, SPACE)
