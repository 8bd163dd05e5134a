import pytest
from known_machine import SPACE

from nas.predictors.coverage import covering_batches, member_with, operators_of_space
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import operators_of, registered
from nas.predictors.target import Target
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space


@pytest.mark.parametrize("name", ["tiny", "mobile"])
def test_every_operator_of_a_space_has_a_member(name):
    space = load_space(name)
    for label in operators_of_space(space):
        member = member_with(space, label, 0)
        assert member is not None, label
        assert label in {registered(node) for node in nodes(member)}


def test_what_fits_nowhere_has_none():
    assert member_with(SPACE, "token_mixer:unheard_of", 0) is None


def test_batches_time_what_is_missing_and_then_nothing():
    table = LatencyTable(Target(), "tiny", num_classes=10)
    for batch in covering_batches(SPACE, table):
        for node, seconds in batch():
            table.add_node(node, seconds)
    assert operators_of_space(SPACE) <= operators_of(table.nodes.values())
    assert not list(covering_batches(SPACE, table))


def test_what_the_target_refuses_is_not_looked_for():
    table = LatencyTable(Target(), "tiny", num_classes=10)
    table.refused = {label: {"reason": "", "share": 0.1} for label in operators_of_space(SPACE)}
    assert not list(covering_batches(SPACE, table))
