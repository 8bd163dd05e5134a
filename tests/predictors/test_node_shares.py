"""Node times and the latency of their network: the mean of both, and what nodes without a network are brought to."""

from __future__ import annotations

import math
import random

import pytest

import nas
from nas.predictors.latency_table import HELD_OUT, LatencyTable
from nas.predictors.node_shares import shared_out, usual_factor
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
    told = shared_out(found, whole)
    assert [node for node, _ in told] == [node for node, _ in found]
    assert sum(seconds for _, seconds in told) == pytest.approx(whole / 1.1)
    for (_, before), (_, after) in zip(found, told, strict=True):
        assert after == pytest.approx(1.1 * before)


def test_a_mood_that_all_nodes_of_a_network_share_is_halved():
    calm, slow = timed(1), timed(1, mood=1.44)
    whole = sum(seconds for _, seconds in calm)
    for (_, wanted), (_, found) in zip(calm, shared_out(slow, whole), strict=True):
        assert math.log(found / wanted) == pytest.approx(math.log(1.44) / 2)


def test_nodes_without_a_network_are_brought_to_what_the_others_are():
    def measured(seconds):
        return Measurement(seconds, seconds, seconds, seconds, seconds, 10, 0.0, 0.0, str(table.target), 32)

    table = LatencyTable(Target.parse("cpu:onnxruntime"), "tiny", num_classes=10)
    assert usual_factor(table) == 1.0
    for seed, ratio in enumerate((1.1, 1.3, 1.2)):
        found = timed(seed)
        for node, seconds in found:
            if node.key not in table.nodes:
                table.add_node(node, seconds)
        architecture = SPACE.sample(random.Random(seed))
        table.add(architecture, measured(ratio * sum(seconds for _, seconds in found)))
    stranger = SPACE.sample(random.Random(9))
    table.add(stranger, measured(1.0), HELD_OUT)
    assert usual_factor(table) == pytest.approx(1.2)
