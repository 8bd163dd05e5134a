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
    assert growth(np.exp([growth.middle])) == pytest.approx([1.0])
    assert growth(np.exp([growth.middle + 1]))[0] == pytest.approx(np.exp(growth.exponent))


def test_factors_that_fall_and_few_of_them_tell_of_no_growth():
    assert Growth.fit(grown(-0.2)).exponent == 0
    assert Growth.fit(grown(0.2, train=FEWEST - 1)) == Growth()
    assert Growth.fit(grown(0.2, train=FEWEST)).exponent > 0


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


def test_networks_of_few_nodes_are_predicted_as_well_as_those_of_many():
    table = grown(0.25, train=40, held_out=60)
    held_out = list(table.of_role(HELD_OUT))
    architectures, measured = [item.architecture for item in held_out], table.latency(held_out)
    counts = np.log([len(nodes(item, None, 3, 10)) for item in architectures])

    def slope() -> float:
        errors = np.log(LatencyPredictor.fit(table).predict(architectures).mean / measured)
        return float(np.polyfit(counts, errors, 1)[0])

    known = slope()
    table.factors = {}
    assert abs(known) < 0.03
    assert abs(slope()) > 2 * abs(known), "of nodes alone it could not be told"
