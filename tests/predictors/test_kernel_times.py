import itertools
import math
import random
from collections import Counter

import pytest
from few_operators import FEW
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileError, MeasurementError
from nas.predictors import kernel_times, latency_profile
from nas.predictors.coverage import operators_of_space
from nas.predictors.environment import environment
from nas.predictors.fresh_weights import told_apart
from nas.predictors.kernel_times import (
    ENOUGH,
    IN_PLACE,
    IN_TRAINING,
    KERNELS,
    LEAST,
    MOST_COPIES,
    MOST_VISITS,
    VISITS,
    _Copies,
    _visit_in_turn,
    copies_for,
    node_clock,
    time_in_network,
    time_kernels,
    told_at,
)
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.machine import MachineState
from nas.predictors.node_times import operators_of
from nas.predictors.samples import read_samples, samples_path
from nas.predictors.target import Target
from nas.predictors.timings import FELT, Visit
from nas.predictors.visits import Series
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
ONNX = Target.parse("cpu:onnxruntime")


def test_every_node_of_a_network_is_timed_by_copies_of_its_kernels():
    architecture = SPACE.sample(random.Random(3))
    recorded = []
    table = LatencyTable(ONNX, "tiny", num_classes=10)
    found = time_in_network(architecture, table, lambda kind, key, visit: recorded.append((kind, key, visit)))
    assert [node for node, _ in found] == list(nodes(architecture, None, 3, 10))
    assert all(seconds >= LEAST for _, seconds in found)
    mixers = {node.key for node, _ in found if node.kind in ("token_mixer", "channel_mixer", "stem", "downsample", "head")}
    assert min(seconds for node, seconds in found if node.key in mixers) > LEAST
    copied = {key.rpartition(" x")[0] for kind, key, _ in recorded if kind == "node"}
    assert mixers <= copied
    assert "x0" in {key for kind, key, _ in recorded if kind == "node"}
    assert {kind for kind, _, _ in recorded} == {"anchor", "node"}
    assert all(len(visit.beside) == len(visit.seconds) for kind, _, visit in recorded if kind == "node")


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_anchor_runs_before_and_after_every_two_nodes(monkeypatch, number):
    """What runs around a node is told with it: the mean of the two."""
    told = itertools.count(1.0)
    order = []

    class Anchor(Series):
        def again(self):
            order.append("anchor")
            return next(told)

    monkeypatch.setattr(kernel_times, "_readings", lambda series: order.append(series.position) or (1e-3, 1e-3, 1e-3))
    items, beside = [_Copies(f"{place}", 1, Series(lambda: None, place)) for place in range(number)], Anchor(lambda: None)
    _visit_in_turn(items, beside, MachineState())
    rounds = len(beside.visits)
    assert VISITS <= rounds <= MOST_VISITS
    assert order.count("anchor") == rounds * (1 + math.ceil(number / 2))
    assert order[: 2 + min(number, 2)] == ["anchor", *range(min(number, 2)), "anchor"]
    assert items[0].series.visits[0].beside == (1.5, 1.5, 1.5)
    assert items[-1].series.visits[0].beside == (math.ceil(number / 2) + 0.5,) * 3


@given(st.floats(0.5, 3.0), st.floats(1e-6, 1.0))
def test_runs_are_told_by_what_kernels_feel_of_the_anchor_around_them(slower, seconds):
    reference, runs = 1e-3, (seconds, 2 * seconds)
    calm = Visit(0.0, 0, runs, None, MachineState(), beside=(reference, reference))
    felt = tuple(run * slower**FELT for run in runs)
    disturbed = Visit(0.0, 1, felt, None, MachineState(), beside=(slower * reference, slower * reference))
    for visit in (calm, disturbed):
        assert told_at(visit, reference) == pytest.approx(runs)


@pytest.mark.parametrize(("place", "part"), [("", FELT), ("@127.0.0.1:1", 1.0)])
def test_kernels_of_a_target_elsewhere_are_told_at_its_speed_and_here_by_what_they_feel(place, part, monkeypatch):
    architecture, told = FEW.sample(random.Random(3)), {}

    def visited(items, beside, state):
        for item in items:
            item.series.visits.append(Visit(0.0, 0, (1e-3 * (item.number > 0),), None, state, beside=(1e-3,)))
        beside.visits.append(Visit(0.0, 0, (1e-3,), None, state))

    monkeypatch.setattr(kernel_times, "_visit_in_turn", visited)
    monkeypatch.setattr(kernel_times, "copies_for", lambda seconds: 1)
    for anchor in (1e-3, 8e-3):
        table = LatencyTable(Target.parse(f"cpu:onnxruntime{place}"), "tiny", num_classes=10, anchor=anchor)
        told[anchor] = [seconds for _, seconds in time_kernels(architecture, table)]
    ratios = {round(slow / quick, 6) for quick, slow in zip(told[1e-3], told[8e-3], strict=True) if quick > LEAST}
    assert ratios == {round(8**part, 6)}


def test_a_training_network_takes_what_its_nodes_take_together(tmp_path, monkeypatch):
    """Each node's time is its share of the network's latency, so that no mood of the few seconds of its kernels is left."""
    monkeypatch.setattr(latency_profile, "COOLING_SECONDS", 0.0)
    table = profile(FEW, ONNX, tmp_path / "t.json", num_classes=10, train=1, held_out=0, seconds=0.2)
    (network,) = table.of_role(TRAIN)
    own = Counter(node.key for node in nodes(network.architecture, None, 3, 10))
    firsts = [sum(table.nodes[key].samples[:number]) for key, number in own.items()]
    assert sum(firsts) == pytest.approx(network.measurement.quiet)


@given(st.floats(-1e-5, 1.0))
def test_copies_take_long_enough_together_and_no_longer_than_they_must(seconds):
    number = copies_for(seconds)
    assert 1 <= number <= MOST_COPIES
    assert number == MOST_COPIES or number * seconds >= ENOUGH * (1 - 1e-9)
    assert number == 1 or (number - 1) * seconds < ENOUGH


def test_a_network_that_cannot_be_taken_apart_is_told_of(monkeypatch):
    def fails(*_, **__):
        raise MeasurementError("two kernels have one name")

    told = []
    monkeypatch.setattr(kernel_times, "exported", fails)
    table = LatencyTable(ONNX, "tiny", num_classes=10)
    architecture = FEW.sample(random.Random(3))
    assert time_in_network(architecture, table, refuse=lambda group, error: told.append((len(group), str(error)))) == []
    assert told == [(len(nodes(architecture, None, 3, 10)), "two kernels have one name")]


def test_networks_are_timed_with_weights_that_an_exporter_cannot_merge():
    model = told_apart(build(SPACE.sample(random.Random(0)), 10, 3))
    seen = [parameter.detach().numpy().tobytes() for parameter in model.parameters()]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("before", ["in place", "kernels of ONNX Runtime, weights told apart"])
def test_times_of_two_clocks_are_never_mixed(tmp_path, before):
    assert node_clock(ONNX) == KERNELS
    assert node_clock(Target()) == IN_TRAINING
    assert node_clock(Target.parse("cpu:onnxruntime,precision=int8")) == node_clock(Target.parse("cpu:compile")) == IN_PLACE
    table = LatencyTable(ONNX, "tiny", num_classes=10, anchor=1e-3, environment=environment("onnxruntime"))
    table.add_node(nodes(SPACE.sample(random.Random(0)), None, 3, 10)[0], 1e-4)
    table.environment["nodes"] = before
    table.save(tmp_path / "t.json")
    with pytest.raises(FileError, match=f"nodes timed another way: {before}, not {KERNELS}"):
        profile(SPACE, ONNX, tmp_path / "t.json", num_classes=10, seconds=0.1)


@pytest.mark.parametrize("space", [FEW, pytest.param(SPACE, marks=pytest.mark.thorough)], ids=lambda space: space.name)
def test_node_times_come_with_the_training_networks(tmp_path, monkeypatch, space):
    """Each operator that the networks lack is exported with a network of its own, which takes its time where there are many."""
    monkeypatch.setattr(latency_profile, "COOLING_SECONDS", 0.0)
    table = profile(space, ONNX, tmp_path / "t.json", num_classes=10, train=2, held_out=1, seconds=0.5)
    known = {node.key for item in table.of_role(TRAIN) for node in nodes(item.architecture, None, 3, 10)}
    samples = [line for line in read_samples(samples_path(tmp_path / "t.json")) if line["what"] == "node"]
    assert known <= table.nodes.keys()
    assert table.census == 0
    assert len(table.factors) == 2
    assert {line["id"].rpartition(" x")[0] for line in samples} <= {*table.nodes, ""}
    assert operators_of_space(space) <= operators_of(table.nodes.values())
