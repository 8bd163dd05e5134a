"""Nodes timed in their place: networks take turns, and one that does not run is left out."""

import random

import numpy as np
import pytest
import torch
from few_operators import FEW

from nas.errors import MeasurementError
from nas.predictors import census
from nas.predictors.census import TURNS, node_batches
from nas.predictors.in_place_timing import PASSES, VISITS, _Placed, time_in_place
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import nodes

GROUP = [FEW.sample(random.Random(index)) for index in range(3)]


def nodes_of(architecture):
    return list(nodes(architecture, None, 3, 10))


@pytest.fixture
def table():
    return LatencyTable(Target(), "few", num_classes=10)


def test_networks_take_turns_and_every_pass_is_recorded(table, monkeypatch):
    visited, recorded = [], []
    visit = _Placed.visit

    def seen(self, *arguments):
        visited.append(self.model.architecture.digest)
        visit(self, *arguments)

    monkeypatch.setattr(_Placed, "visit", seen)
    found = time_in_place(GROUP, table, lambda kind, key, visit: recorded.append((kind, key, visit)))
    assert [node for node, _ in found] == [node for one in GROUP for node in nodes_of(one)]
    assert all(seconds > 0 for _, seconds in found)
    forth = [one.digest for one in GROUP]
    assert visited == [*forth, *forth[::-1], *forth]
    assert len(visited) == VISITS * len(GROUP)
    passes = [item for item in recorded if item[0] == "node"]
    assert len(passes) == VISITS * len(found)
    assert {len(visit.seconds) for _, _, visit in passes} == {len(visit.beside) for _, _, visit in passes} == {PASSES}
    assert {key for _, key, _ in passes} == {node.key for node, _ in found}


def test_a_time_is_the_median_of_passes_told_by_the_anchor_beside_them(table):
    placed = _Placed.of(GROUP[0], table)
    mood = np.array([1.0, 1.5, 1.0, 2.0, 1.0])
    placed.passes = [[float(factor) * 3e-3, float(factor) * 5e-3] for factor in mood]
    placed.passes[0][1] = 1.0  # a single disturbance
    placed.around = (2e-3 * mood).tolist()
    assert placed.seconds(1e-3) == pytest.approx([1.5e-3, 2.5e-3])
    assert placed.seconds(None) == pytest.approx([3e-3, 5e-3])


def test_a_network_that_does_not_run_is_refused_and_the_others_are_timed(table, monkeypatch):
    run_node, told = Backbone.run_node, []

    def fails(self, name, inputs, values, *rest):
        if self.architecture == GROUP[1] and name == "head":
            raise RuntimeError("no memory")
        return run_node(self, name, inputs, values, *rest)

    monkeypatch.setattr(Backbone, "run_node", fails)
    found = time_in_place(GROUP, table, refuse=lambda group, error: told.append((list(group), str(error))))
    assert [node for node, _ in found] == [node for one in (GROUP[0], GROUP[2]) for node in nodes_of(one)]
    assert told == [(nodes_of(GROUP[1]), "node head does not run in place: no memory")]
    assert time_in_place([GROUP[1]], table) == []
    with pytest.raises(MeasurementError, match="head"):
        _Placed.of(GROUP[1], table)._pass()


def test_a_census_goes_on_after_the_networks_that_were_timed_and_takes_fewer_large_ones_together(table, monkeypatch):
    drawn = []
    monkeypatch.setattr(census, "time_in_place", lambda group, *_: drawn.extend(one.digest for one in group) or [])
    batches = node_batches(FEW, table)
    for call, number in (next(batches), next(batches)):
        call()
        assert number == TURNS
    table.census = TURNS
    next(node_batches(FEW, table))[0]()
    assert drawn[TURNS : 2 * TURNS] == drawn[2 * TURNS :]
    monkeypatch.setattr(census, "TURNS_BYTES", 1)
    assert next(node_batches(FEW, table))[1] == 1


def test_networks_and_images_are_of_the_targets_batch_and_precision():
    table = LatencyTable(Target.parse("cpu:eager,batch=2,precision=bf16"), "few", num_classes=10)
    placed = _Placed.of(GROUP[0], table)
    assert placed.image.shape[0] == 2
    assert {placed.image.dtype, *(item.dtype for item in placed.model.parameters())} == {torch.bfloat16}
    assert not placed.model.training
