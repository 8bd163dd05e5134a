"""Node times and the latency of their network: the mean of both, and what nodes without a network are brought to."""

from __future__ import annotations

import math
import random

import pytest

import nas
from nas.predictors.export_pool import ExportPool
from nas.predictors.latency_table import LatencyTable
from nas.predictors.network_profile import NetworkProfile
from nas.predictors.node_shares import ALL, HALF, share, shared_out, usual_factor
from nas.predictors.samples import unrecorded
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.search_spaces.graph import nodes

SPACE = nas.load_space("tiny")


def timed(seed: int, mood: float = 1.0):
    """A network's nodes, each with seconds of its own, as a machine in some mood takes them."""
    parts = nodes(SPACE.sample(random.Random(seed)), None, 3, 10)
    return [(node, mood * (1e-5 + 1e-9 * node.out_shape[2] * node.out_shape[0] ** 2)) for node in parts]


def test_nodes_go_half_of_the_way_to_their_shares_and_keep_their_proportions():
    found = timed(0)
    whole = 1.21 * sum(seconds for _, seconds in found)
    told, factor = shared_out(found, whole, HALF)
    assert factor == pytest.approx(1.21)
    assert [node for node, _ in told] == [node for node, _ in found]
    assert sum(seconds for _, seconds in told) == pytest.approx(whole / 1.1)
    for (_, before), (_, after) in zip(found, told, strict=True):
        assert after == pytest.approx(1.1 * before)


@pytest.mark.parametrize(
    ("target", "ancestry", "part"), [("cpu:eager", [], HALF), ("cpu:onnxruntime", [], ALL), ("cpu:eager", ["cuda:eager"], ALL)]
)
def test_kernels_and_inherited_nodes_are_shares_of_their_networks_and_nodes_in_place_half_of_it(target, ancestry, part):
    assert share(LatencyTable(Target.parse(target), "tiny", num_classes=10, ancestry=ancestry)) == part


@pytest.mark.parametrize(("part", "left"), [(HALF, 0.5), (ALL, 0.0)])
def test_a_mood_that_all_nodes_of_a_network_share_is_halved_or_gone(part, left):
    calm, slow = timed(1), timed(1, mood=1.44)
    whole = sum(seconds for _, seconds in calm)
    for (_, wanted), (_, found) in zip(calm, shared_out(slow, whole, part)[0], strict=True):
        assert math.log(found / wanted) == pytest.approx(left * math.log(1.44), abs=1e-9)


def test_nodes_without_a_network_are_brought_to_what_the_others_are():
    table = LatencyTable(Target.parse("cpu:onnxruntime"), "tiny", num_classes=10)
    assert usual_factor(table) == 1.0
    table.factors |= {"a": 1.1, "b": 1.3, "c": 1.2}
    assert usual_factor(table) == pytest.approx(1.2)


@pytest.mark.parametrize(("target", "ratio"), [("cpu:onnxruntime", 1.5), ("cpu:eager", 1.5**0.5)])
def test_what_is_timed_before_any_network_is_brought_to_what_the_first_ones_take(target, ratio):
    """By kernels; nodes that were timed in place are told by themselves."""
    table = LatencyTable(Target.parse(target), "tiny", num_classes=10)
    before, found = nodes(SPACE.sample(random.Random(7)), None, 3, 10)[0], timed(0)
    table.add_node(before, 1.0)
    session = NetworkProfile(SPACE, table, unrecorded, ExportPool(table.target, 10, 3), bring=True)
    first, second = (SPACE.sample(random.Random(index)) for index in range(2))
    for architecture, factor in ((first, 1.5), (second, 3.0)):
        session.timed[architecture.digest] = found
        session._add_nodes([(architecture, measured(str(table.target), factor * sum(seconds for _, seconds in found)))])
    assert table.nodes[before.key].samples[0] == pytest.approx(1.5 if ratio == 1.5 else 1.0)
    assert table.factors == pytest.approx({first.digest: 1.5, second.digest: 3.0})
    last = found[-1]
    assert table.nodes[last[0].key].samples[0] == pytest.approx(ratio * last[1])


def test_nodes_of_a_target_elsewhere_keep_their_own_times():
    table = LatencyTable(Target.parse("cpu:onnxruntime@127.0.0.1:1"), "tiny", num_classes=10)
    session = NetworkProfile(SPACE, table, unrecorded, ExportPool(table.target, 10, 3), bring=True)
    architecture, found = SPACE.sample(random.Random(0)), timed(0)
    session.timed[architecture.digest] = found
    session._add_nodes([(architecture, measured(str(table.target), 1.0))])
    assert table.nodes[found[0][0].key].samples[0] == found[0][1]
    assert table.factors == {}


def measured(target: str, seconds: float) -> Measurement:
    return Measurement(seconds, seconds, seconds, seconds, seconds, 10, 0.0, 0.0, target, 32)
