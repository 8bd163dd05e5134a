"""Nodes timed in their place: networks take turns, and one that does not run is left out."""

import itertools
import random
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from few_operators import FEW

from nas.errors import MeasurementError
from nas.predictors import census, in_place_timing, latency_profile
from nas.predictors.census import TURNS, node_batches
from nas.predictors.cost import cost
from nas.predictors.in_place_timing import PASSES, VISITS, _Placed, time_each_in_place, time_in_place
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import FELT
from nas.search_spaces.backbone import Backbone, build
from nas.search_spaces.graph import nodes

SECONDS = 0.01
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
    placed.passes = [[float(factor) ** FELT * 3e-3, float(factor) ** FELT * 5e-3] for factor in mood]
    placed.passes[0][1] = 1.0  # a single disturbance
    placed.around = (2e-3 * mood).tolist()
    assert placed.seconds(1e-3) == pytest.approx([3e-3 / 2**FELT, 5e-3 / 2**FELT])
    assert placed.seconds(None) == pytest.approx([3e-3, 5e-3])
    assert placed.seconds(1e-3, elsewhere=True) == pytest.approx([3e-3 / 2, 5e-3 / 2])


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


def test_a_network_that_fails_beside_others_is_timed_by_itself_once_they_are_gone(table, monkeypatch):
    visit, made, alive, recorded = _Placed.visit, [], [], []

    def short_of_memory(self, *arguments):
        if self.model.architecture == GROUP[1]:
            alive.append(sum(model() is not None for model in made))
            if alive[-1] > 1:
                raise MeasurementError("no memory")
        visit(self, *arguments)

    def counted(architecture, *arguments):
        model = build(architecture, *arguments)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(in_place_timing, "build", counted)
    monkeypatch.setattr(_Placed, "visit", short_of_memory)
    told = []
    found = time_in_place(GROUP, table, lambda *raw: recorded.append(raw), lambda *refused: told.append(refused))
    assert [node for node, _ in found] == [node for one in (GROUP[0], GROUP[2], GROUP[1]) for node in nodes_of(one)]
    assert alive == [3, *[1] * VISITS]
    assert told == []
    assert [seen.round for kind, _, seen in recorded if kind == "anchor"] == [0] * VISITS + [2] * VISITS + [1] * VISITS


def test_nodes_are_told_by_network_and_one_that_does_not_run_has_none(table, monkeypatch):
    run_node = Backbone.run_node

    def fails(self, *rest):
        if self.architecture == GROUP[1]:
            raise RuntimeError("no memory")
        return run_node(self, *rest)

    monkeypatch.setattr(Backbone, "run_node", fails)
    first, second, third = time_each_in_place(GROUP, table)
    assert ([node for node, _ in first], second) == (nodes_of(GROUP[0]), [])
    assert [node for node, _ in third] == nodes_of(GROUP[2])


@pytest.mark.parametrize(("target", "elsewhere"), [("cpu:eager", False), ("cpu:onnxruntime@127.0.0.1:7070", True)])
def test_nodes_of_a_target_elsewhere_are_told_at_its_speed(monkeypatch, target, elsewhere):
    told = []

    def seconds(self, reference, *, elsewhere):
        told.append((reference, elsewhere))
        return [1e-3] * len(self.nodes)

    monkeypatch.setattr(_Placed, "seconds", seconds)
    time_in_place(GROUP[:1], LatencyTable(Target.parse(target), "few", num_classes=10, anchor=0.5))
    assert told == [(0.5, elsewhere)]


def test_samples_tell_which_network_of_the_census_they_are_of(table):
    table.census, recorded = 40, []
    time_in_place(GROUP[:2], table, lambda kind, key, visit: recorded.append((kind, key, visit.round)))
    for place, one in enumerate(GROUP[:2]):
        assert {key for kind, key, number in recorded if number == 40 + place and kind == "node"} == {
            node.key for node in nodes_of(one)
        }


@pytest.fixture
def drawn(monkeypatch):
    """Digests of the networks that a census draws, group by group; they take SECONDS each by a clock that they alone move."""
    groups, clock = [], [0.0]

    def timed(group, *_):
        groups.append([one.digest for one in group])
        clock[0] += SECONDS * len(group)
        return [(node, 1e-3) for one in group for node in nodes_of(one)]

    monkeypatch.setattr(census, "time_in_place", timed)
    monkeypatch.setattr(census, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    return groups


def run(batches, table, number):
    for call, networks in itertools.islice(batches, number):
        call()
        table.census += networks


def test_a_census_begins_with_one_network_and_goes_on_after_those_that_were_timed(table, drawn):
    run(node_batches(FEW, table), table, 3)
    assert [len(group) for group in drawn] == [1, TURNS, TURNS]
    run(node_batches(FEW, table), table, 2)
    assert table.census == sum(map(len, drawn)) == 2 + 3 * TURNS
    expected = [FEW.sample(random.Random(f"0:census:{index}")).digest for index in range(table.census)]
    assert [digest for group in drawn for digest in group] == expected


@pytest.mark.parametrize(("name", "limit", "size"), [("TURNS_SECONDS", 3.5 * SECONDS, 3), ("TURNS_BYTES", None, 2)])
def test_slow_and_large_networks_take_turns_with_fewer(table, drawn, monkeypatch, name, limit, size):
    first = FEW.sample(random.Random("0:census:0"))
    monkeypatch.setattr(census, name, limit or int(2.5 * 4 * cost(first, in_channels=3, num_classes=10).params))
    run(node_batches(FEW, table), table, 2)
    assert [len(group) for group in drawn] == [1, size]


def test_a_profile_times_no_network_of_the_census_twice(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(latency_profile._Session, "cover_operators", lambda *_, **__: None)
    monkeypatch.setattr(latency_profile._Session, "measure_networks", lambda *_, **__: None)

    class Spent:
        """A table has cost what it may after some groups."""

        def __get__(self, table, owner=None):
            return 100.0 if len(drawn) >= self.groups else 0.0

        def __set__(self, table, value):
            pass

    monkeypatch.setattr(LatencyTable, "spent", Spent(), raising=False)
    for groups in (3, 5):
        Spent.groups = groups
        table = latency_profile.profile(FEW, Target(), tmp_path / "t.json", num_classes=10)
        assert table.census == sum(map(len, drawn))
    digests = [digest for group in drawn for digest in group]
    assert digests == [FEW.sample(random.Random(f"0:census:{index}")).digest for index in range(len(digests))]


def test_networks_and_images_are_of_the_targets_batch_and_precision():
    table = LatencyTable(Target.parse("cpu:eager,batch=2,precision=bf16"), "few", num_classes=10)
    placed = _Placed.of(GROUP[0], table)
    assert placed.image.shape[0] == 2
    assert {placed.image.dtype, *(item.dtype for item in placed.model.parameters())} == {torch.bfloat16}
    assert not placed.model.training
