"""How much longer networks of many nodes take than their nodes alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import nas
from nas.predictors.growth import FEWEST, Growth
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.node_shares import share, shared_out
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.search_spaces.graph import nodes

SPACE = nas.load_space("tiny")
ONNX, EAGER = Target.parse("cpu:onnxruntime"), Target.parse("cpu:eager")


def grown(exponent: float, target: Target = ONNX, train: int = 24, held_out: int = 0) -> LatencyTable:
    """A table of networks that take n ** exponent times as long as their nodes alone, which take what they work."""
    table = LatencyTable(target, "tiny", num_classes=10, anchor=1e-3)
    for index in range(train + held_out):
        architecture = SPACE.sample(random.Random(index))
        alone = [(node, 1e-5 + 1e-9 * node.out_shape[2] * node.out_shape[0] ** 2) for node in nodes(architecture, None, 3, 10)]
        seconds = len(alone) ** exponent * sum(taken for _, taken in alone)
        measurement = Measurement(seconds, seconds, seconds, seconds, seconds, 10, 0.0, 0.0, str(target), 32, quiet=seconds)
        table.add(architecture, measurement, TRAIN if index < train else HELD_OUT)
        if index < train:
            told, table.factors[architecture.digest] = shared_out(alone, seconds, share(table))
            for node, taken in told:
                table.add_node(node, taken)
    return table


@pytest.mark.parametrize("exponent", [0.0, 0.1, 0.25])
def test_the_exponent_is_found_and_networks_of_the_usual_size_take_what_they_take(exponent):
    growth = Growth.fit(grown(exponent))
    assert growth.exponent == pytest.approx(exponent, abs=0.02)
    counts = [len(nodes(item.architecture, None, 3, 10)) for item in grown(exponent).of_role(TRAIN)]
    assert growth.middle == pytest.approx(np.mean(np.log(counts)))
    assert growth(np.array([20.0, 40.0])) == pytest.approx(
        np.array([20.0, 40.0]) ** growth.exponent / np.exp(growth.middle) ** growth.exponent
    )


def test_factors_that_fall_and_few_of_them_tell_of_no_growth():
    assert Growth.fit(grown(-0.2)).exponent == 0
    assert Growth.fit(grown(0.2, train=FEWEST - 1)) == Growth()
    assert Growth.fit(grown(0.2, train=FEWEST)).exponent > 0.1


def test_factors_of_networks_that_a_table_lacks_are_left_out_and_their_order_changes_nothing():
    table = grown(0.2)
    wanted = Growth.fit(table)
    table.factors = dict(reversed([*table.factors.items(), ("gone", 7.0)]))
    assert Growth.fit(table) == wanted
    table.nodes.pop(next(iter(table.nodes)))
    assert len(wanted.without(table).nodes) == len(table.nodes)


def test_a_node_without_a_network_counts_as_one_of_the_usual_size():
    """A sample of its own is not moved, so that the mean of both moves by half."""
    table = grown(0.25)
    growth = Growth.fit(table)
    key, borne = next((key, len(item.samples)) for key, item in table.nodes.items() if len(item.samples) == 1)
    before = np.log(growth.without(table).nodes[key].samples[0] / table.nodes[key].samples[0])
    table.add_node(table.nodes[key].node, table.nodes[key].samples[0])
    after = np.log(growth.without(table).nodes[key].samples[0] / table.nodes[key].samples[0])
    assert borne == 1
    assert after == pytest.approx(before / 2)
    assert abs(before) > 1e-3


@pytest.mark.parametrize("target", [ONNX, EAGER], ids=str)
def test_nodes_are_freed_of_the_growth_that_they_bear(target):
    """What is left of it are the samples' means of the usual network, in eager mode on half of the way."""
    table = grown(0.25, target)
    growth = Growth.fit(table)
    freed = growth.without(table)
    level = np.exp(share(table) * 0.25 * growth.middle)
    for item in freed.nodes.values():
        alone = 1e-5 + 1e-9 * item.node.out_shape[2] * item.node.out_shape[0] ** 2
        found = np.exp(np.mean(np.log(item.samples)))
        assert found == pytest.approx(level * alone, rel=0.03)
    assert growth.without(replace(table, factors={})) == replace(table, factors={})


@pytest.mark.parametrize("target", [ONNX, EAGER], ids=str)
def test_networks_of_few_nodes_are_predicted_as_well_as_those_of_many(target):
    table = grown(0.25, target, train=40, held_out=60)
    held_out = list(table.of_role(HELD_OUT))
    architectures, measured = [item.architecture for item in held_out], table.latency(held_out)
    counts = np.log([len(nodes(item, None, 3, 10)) for item in architectures])

    def slope() -> float:
        errors = np.log(LatencyPredictor.fit(table).predict(architectures).mean / measured)
        return float(np.polyfit(counts, errors, 1)[0])

    known = slope()
    table.factors = {}
    assert abs(known) < 0.03
    assert abs(slope()) > 0.05, "of nodes alone it could not be told"
