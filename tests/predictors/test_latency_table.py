import json
import random
from dataclasses import replace

import pytest

from nas.errors import FileError, MeasurementError, UsageError
from nas.predictors.latency_table import HELD_OUT, LatencyTable
from nas.predictors.remarks import remarks
from nas.predictors.target import Target
from nas.predictors.timings import FELT, Measurement, Speed
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")


def measured(seconds, target="cpu:eager,threads=1,batch=1,precision=fp32"):
    return Measurement(seconds, seconds * 0.99, seconds * 1.01, seconds, seconds, 10, 0.02, 0.01, target, 32)


@pytest.fixture
def table():
    made = LatencyTable(Target(), "tiny", num_classes=10, anchor=1e-3, environment={"cpu": "x"})
    architecture = SPACE.sample(random.Random(0))
    for node in nodes(architecture, None, 3, 10):
        made.add_node(node, 1e-4)
        made.add_node(node, 2e-4)
    made.add(architecture, measured(3e-3))
    made.add(SPACE.sample(random.Random(1)), measured(4e-3), HELD_OUT)
    made.factors = dict(zip(made.networks, (1.2, 1.1), strict=True))
    return made


def test_a_file_holds_the_whole_table(table, tmp_path):
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json", Target()) == table


def test_networks_that_never_settled_are_among_the_remarks(table):
    assert remarks(table) == []
    digest, item = next(iter(table.networks.items()))
    table.networks[digest] = replace(item, measurement=replace(item.measurement, unsettled=True))
    assert remarks(table)[0].startswith("1 of 2 networks were measured although their times still changed")


def test_samples_of_a_node_are_kept_apart(table):
    samples = [item.samples for item in table.nodes.values()]
    assert all(len(item) >= 2 and set(item) == {1e-4, 2e-4} for item in samples)


def test_a_table_of_another_target_or_version_or_format_is_refused(table, tmp_path):
    path = tmp_path / "t.json"
    table.save(path)
    with pytest.raises(FileError, match=r"is of target cpu:eager.*not cpu:onnxruntime"):
        LatencyTable.load(path, Target.parse("cpu:onnxruntime"))
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"version": 99}))
    with pytest.raises(FileError, match="version 99"):
        LatencyTable.load(path)
    path.write_text("{}")
    with pytest.raises(FileError, match="no latency table"):
        LatencyTable.load(path)


@pytest.mark.parametrize("name", ["nodes", "networks", "target", "anchor"])
def test_a_damaged_table_is_refused_in_one_line(table, tmp_path, name):
    path = tmp_path / "t.json"
    table.save(path)
    data = json.loads(path.read_text())
    del data[name]
    path.write_text(json.dumps(data))
    with pytest.raises(FileError) as caught:
        LatencyTable.load(path)
    assert "\n" not in str(caught.value)
    path.write_text(json.dumps(data)[:-20])
    with pytest.raises(FileError, match="damaged or not JSON"):
        LatencyTable.load(path)


def test_a_table_of_noise_is_refused(table):
    table.require_quiet()
    for digest, item in list(table.networks.items()):
        table.add(item.architecture, replace(item.measurement, spread=0.4), item.role)
        assert table.networks[digest].measurement.spread == 0.4
    with pytest.raises(MeasurementError, match="spread by 40%"):
        table.require_quiet()


def test_measurements_of_another_target_do_not_mix(table):
    with pytest.raises(UsageError, match="does not belong"):
        table.add(SPACE.sample(random.Random(2)), measured(1e-3, "cpu:onnxruntime,threads=1,batch=1,precision=fp32"))
    with pytest.raises(UsageError, match="role"):
        table.add(SPACE.sample(random.Random(2)), measured(1e-3), "both")


def test_a_table_knows_what_its_networks_feel_of_the_anchor_and_tells_each_at_another_speed_by_it(table):
    assert (table.felt, table.speed) == (FELT, Speed(1e-3, None))
    for (digest, item), part in zip(table.networks.items(), (1.2, 1.0), strict=True):
        table.networks[digest] = replace(item, measurement=replace(item.measurement, quiet=2e-3, part=part))
    before = [item.measurement.median for item in table.networks.values()]
    assert (table.felt, table.speed) == (1.1, Speed(1e-3, 1.1))
    table.tell_at(2e-3)
    found = [item.measurement for item in table.networks.values()]
    assert [item.median for item in found] == pytest.approx([2**1.2 * before[0], 2.0 * before[1]])
    assert [item.quiet for item in found] == pytest.approx([2**1.1 * 2e-3] * 2), "groups stay at one level"
    empty = LatencyTable(Target(), "tiny", num_classes=10)
    assert (empty.felt, empty.speed) == (FELT, None)
    empty.anchor = 1e-3
    assert empty.speed == Speed(1e-3, None)


@pytest.mark.parametrize(("shared", "part"), [(0.0, FELT), (0.5, (FELT + 1.1) / 2), (1.0, 1.1)])
def test_nodes_move_as_they_were_told_or_with_the_networks_whose_share_they_are(table, shared, part):
    for digest, item in table.networks.items():
        table.networks[digest] = replace(item, measurement=replace(item.measurement, quiet=2e-3, part=1.1))
    samples, factors = {key: item.samples for key, item in table.nodes.items()}, dict(table.factors)
    table.tell_at(2e-3, shared)
    for key, item in table.nodes.items():
        assert item.samples == pytest.approx([2**part * seconds for seconds in samples[key]])
    alone, whole = 2**FELT * 1e-3, 2**1.1 * 1e-3  # what a node that is timed at the new speed takes, and its share there
    assert [alone * one for one in table.factors.values()] == pytest.approx([whole * one for one in factors.values()])


def test_nodes_of_a_target_elsewhere_move_by_all_of_it(table):
    table.target = Target.parse("cpu:eager@ray:pi")
    samples = {key: item.samples for key, item in table.nodes.items()}
    table.tell_at(2e-3)
    for key, item in table.nodes.items():
        assert item.samples == pytest.approx([2 * seconds for seconds in samples[key]])


def test_all_times_can_be_told_at_another_speed(table):
    before = {digest: item.measurement for digest, item in table.networks.items()}
    samples = {key: item.samples for key, item in table.nodes.items()}
    anchor = table.anchor or 1e-3
    table.anchor = anchor
    table.tell_at(2 * anchor)
    for digest, item in table.networks.items():
        told = item.measurement.median, item.measurement.high
        assert told == pytest.approx((2**FELT * before[digest].median, 2**FELT * before[digest].high))
        assert item.measurement.slowed == before[digest].slowed / 2
    for key, item in table.nodes.items():
        assert item.samples == pytest.approx([2**FELT * seconds for seconds in samples[key]])
    table.tell_at(anchor)
    for key, item in table.nodes.items():
        assert item.samples == pytest.approx(samples[key])
    for digest, item in table.networks.items():
        assert item.measurement.to_mapping() == pytest.approx(before[digest].to_mapping())
