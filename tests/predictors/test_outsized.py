"""Nodes that are larger than all that random networks brought."""

import math
from types import SimpleNamespace

import pytest
from known_machine import SPACE, sampled

from nas.predictors import outsized as outsized_nodes
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import NodeTimes, registered
from nas.predictors.outsized import STEP, outsized, outsized_batches
from nas.predictors.target import Target
from nas.search_spaces.graph import nodes


def seconds_of(node):
    """A machine on which time grows with the square of the map."""
    return 1e-6 * math.prod(node.in_shape[:2]) ** 2 / 100 + 1e-5


@pytest.fixture
def small(monkeypatch):
    """A table that knows each operator on small maps alone."""
    monkeypatch.setattr(outsized_nodes, "POOL", 60)
    table = LatencyTable(Target(), "tiny", num_classes=10, anchor=1e-3)
    for member in sampled("small", 40):
        for node in nodes(member, None, 3, 10):
            if node.in_shape[0] <= 8 or node.kind in ("stem", "head"):
                table.add_node(node, seconds_of(node))
    return table


def largest(times, table, label):
    return max(times([item.node])[0].seconds for item in table.nodes.values() if registered(item.node) == label)


def test_large_nodes_are_found_each_in_a_member_that_has_it(small):
    found, times = outsized(SPACE, small), NodeTimes.fit(small)
    assert found
    for node, member in found:
        assert node.key in {one.key for one in nodes(member, None, 3, 10)}
        assert node.key not in small.nodes
        assert times([node])[0].seconds > STEP * largest(times, small, registered(node))


def test_there_are_none_once_they_were_timed(small):
    for node, _ in outsized(SPACE, small):
        small.add_node(node, seconds_of(node))
    assert outsized(SPACE, small) == []


def test_what_the_target_refuses_is_not_looked_for(small):
    refused = {registered(node) for node, _ in outsized(SPACE, small)}
    small.refused = {label: {"reason": "", "share": 0.1} for label in refused}
    assert not refused & {registered(node) for node, _ in outsized(SPACE, small)}


def test_steps_double_up_to_the_largest():
    def steps(known):
        items = [(float(size), SimpleNamespace(key=size)) for size in (21, 1, 3, 30, 5, 6, 7, 9, 20)]
        return [node.key for _, node in outsized_nodes._steps(items, known, 2.0)]

    assert steps(2.0) == [5, 20, 30]
    assert steps(3.4) == [7, 20, 30]
    assert steps(15.0) == []


def test_batches_time_the_networks_of_large_nodes_and_nothing_twice(small, monkeypatch):
    asked = []

    def timed(member, table, record, refuse):
        asked.append(member.digest)
        return [(node, seconds_of(node)) for node in nodes(member, None, 3, 10)]

    monkeypatch.setattr(outsized_nodes, "time_in_network", timed)
    wanted = [node.key for node, _ in outsized(SPACE, small)]
    for batch in outsized_batches(SPACE, small):
        for node, seconds in batch():
            small.add_node(node, seconds)
    assert set(wanted) <= small.nodes.keys()
    assert len(asked) == len(set(asked))


def test_fewer_are_asked_for_where_each_must_be_exported(small):
    exported = LatencyTable(Target.parse("cpu:onnxruntime"), "tiny", num_classes=10, anchor=1e-3, nodes=small.nodes)
    fewer = {node.key for node, _ in outsized(SPACE, exported)}
    assert len(fewer) < len(outsized(SPACE, small))


def test_an_empty_table_asks_for_nothing():
    assert list(outsized_batches(SPACE, LatencyTable(Target(), "tiny", num_classes=10))) == []
