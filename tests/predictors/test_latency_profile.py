import random
import statistics
from types import SimpleNamespace

import pytest
import torch
from few_operators import FEW
from known_machine import measured

from nas.errors import FileError
from nas.files import sole_writer
from nas.predictors import latency_profile, network_profile, node_cover
from nas.predictors import profile_cost as cost_of_profiles
from nas.predictors.environment import differences, environment
from nas.predictors.in_place_timing import PASSES, VISITS, WARM, time_in_place
from nas.predictors.kernel_times import IN_TRAINING
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.node_cover import covering
from nas.predictors.node_shares import HALF
from nas.predictors.node_timing import Repeated, difference, node_example, time_repeated
from nas.predictors.profile_cost import default_seconds, numbers, profile_cost
from nas.predictors.profiled_networks import networks_of
from nas.predictors.remarks import remarks
from nas.predictors.samples import read_samples, samples_path
from nas.predictors.target import Target
from nas.predictors.timings import FELT, Measurement
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE, TINY = FEW, load_space("tiny")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody waits for a busy machine here."""
    monkeypatch.setattr(latency_profile, "COOLING_SECONDS", 0.0)


class KilledError(Exception):
    pass


def test_networks_are_distinct_repeatable_and_never_in_both_roles():
    wanted = list(networks_of(SPACE, 3, 12, 6))
    assert wanted == list(networks_of(SPACE, 3, 12, 6))
    assert wanted != list(networks_of(SPACE, 4, 12, 6))
    assert [role for _, role in wanted] == [TRAIN] * 12 + [HELD_OUT] * 6
    assert len({architecture.digest for architecture, _ in wanted}) == 18


def test_a_killed_profile_goes_on_where_it_stopped_and_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_profile, "GROUP", 4)
    path = tmp_path / "table.json"

    def kill(done, total, label):
        if done >= 4:
            raise KilledError

    options = {"num_classes": 10, "train": 8, "held_out": 2, "seconds": 2.0}
    with pytest.raises(KilledError):
        profile(SPACE, Target(), path, progress=kill, **options)
    before = LatencyTable.load(path, Target())
    assert len(before.networks) == 4
    assert before.nodes
    assert before.spent > 0
    seen = []
    table = profile(SPACE, Target(), path, progress=lambda *report: seen.append(report), **options)
    for digest, network in before.networks.items():
        same, retold = network.measurement, table.networks[digest].measurement
        assert (retold.n, retold.anchor, retold.spread) == (same.n, same.anchor, same.spread)
        assert retold.median / table.anchor**FELT == pytest.approx(same.median / before.anchor**FELT)
    assert table.anchor == statistics.median(item.measurement.anchor for item in table.networks.values())
    assert seen[-1][:2] == (10, 10)
    assert (len(list(table.of_role(TRAIN))), len(list(table.of_role(HELD_OUT)))) == (8, 2)
    assert LatencyTable.load(path, Target()) == table
    assert LatencyPredictor.fit(table).predict([SPACE.sample(random.Random(0))]).mean[0] > 0


def test_a_finished_profile_measures_nothing_again(tmp_path):
    path = tmp_path / "table.json"
    first = profile(SPACE, Target(), path, num_classes=10, train=2, held_out=1, seconds=0.5)
    second = profile(SPACE, Target(), path, num_classes=10, train=2, held_out=1, seconds=0.5)
    assert (second.nodes, second.networks) == (first.nodes, first.networks)


def test_large_nodes_are_looked_for_once_and_not_on_a_small_budget(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(latency_profile, "outsized_batches", lambda *given: looked.append(given) or ())
    options = {"num_classes": 10, "train": 1, "held_out": 1}
    assert not profile(SPACE, Target(), tmp_path / "t.json", **options, seconds=0.2).outsized
    assert not looked
    monkeypatch.setattr(latency_profile, "LOOKING_SECONDS", 0.1)
    assert profile(SPACE, Target(), tmp_path / "t.json", **options, seconds=0.2).outsized
    assert profile(SPACE, Target(), tmp_path / "t.json", **options, seconds=0.2).outsized
    assert len(looked) == 1


@pytest.mark.parametrize("looking", [True, False])
def test_training_networks_bring_node_times_along_where_there_is_time(tmp_path, monkeypatch, looking):
    monkeypatch.setattr(latency_profile, "LOOKING_SECONDS", 0.5 if looking else 100.0)
    monkeypatch.setattr(latency_profile, "outsized_batches", lambda *_: ())
    monkeypatch.setattr(latency_profile, "node_batches", lambda *_: ())  # a fast machine's census would bring them too
    table = profile(SPACE, Target(), tmp_path / "t.json", num_classes=10, train=3, held_out=2, seconds=1.0)

    def known(role):
        return [
            {node.key for node in nodes(item.architecture, None, 3, 10)} <= table.nodes.keys() for item in table.of_role(role)
        ]

    assert known(TRAIN) == [looking] * 3
    assert not any(known(HELD_OUT))
    assert LatencyTable.load(tmp_path / "t.json").environment["nodes"] == IN_TRAINING


def test_brought_node_times_go_half_of_the_way_to_the_latency(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_profile, "LOOKING_SECONDS", 0.0)
    monkeypatch.setattr(latency_profile, "outsized_batches", lambda *_: ())
    shares = []
    monkeypatch.setattr(LatencyTable, "tell_at", lambda self, anchor, shared: shares.append(shared))
    monkeypatch.setattr(
        network_profile,
        "time_each_in_place",
        lambda group, *_: [[(node, 1.0) for node in nodes(one, None, 3, 10)] for one in group],
    )
    table = profile(SPACE, Target(), tmp_path / "t.json", num_classes=10, train=1, held_out=0, seconds=1.0)
    (network,) = table.of_role(TRAIN)
    found = nodes(network.architecture, None, 3, 10)
    expected = (network.measurement.quiet / len(found)) ** 0.5
    assert all(table.nodes[node.key].samples[-1] == pytest.approx(expected) for node in found)
    assert shares == [HALF], "and move so far with their networks"


def test_larger_numbers_extend_a_table_and_every_measurement_has_its_samples(tmp_path):
    path = tmp_path / "table.json"
    options = {"num_classes": 10, "seconds": 0.4}
    first = profile(SPACE, Target(), path, train=2, held_out=1, **options)
    second = profile(SPACE, Target(), path, train=3, held_out=2, **options)
    assert {digest: second.networks[digest] for digest in first.networks} == first.networks
    assert (len(list(second.of_role(TRAIN))), len(list(second.of_role(HELD_OUT)))) == (3, 2)
    assert second.networks.keys() == {item.digest for item, _ in networks_of(SPACE, 0, 3, 2)}
    lines = list(read_samples(samples_path(path)))
    by_what = {what: {line["id"] for line in lines if line["what"] == what} for what in ("network", "node", "anchor")}
    assert by_what["network"] == second.networks.keys()
    assert by_what["node"] == second.nodes.keys()
    for digest, item in second.networks.items():
        runs = [seconds for line in lines if line["id"] == digest for seconds in line["seconds"]]
        assert len(runs) == item.measurement.n
    assert {line["version"] for line in lines} == {second.environment["runtime"]}


def test_networks_that_bring_node_times_along_are_chosen_for_them_beside_those_that_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(node_cover, "POOL", 40)
    runtime = {"runtime": "onnxruntime 1"}
    table = LatencyTable(Target("cpu", "onnxruntime"), TINY.name, num_classes=10, in_channels=3, environment=runtime)

    def left(train, held_out=2):
        found = latency_profile._Session(TINY, table, tmp_path / "t.json", train, held_out).networks.left()
        return [[item for item, role in found if role == wanted] for wanted in (TRAIN, HELD_OUT)]

    train, held_out = left(5)
    taken = [item.digest for item in held_out]
    assert {item.digest for item in train} == {item.digest for item in covering(TINY, 5, 0, 3, 10, taken=taken)}
    table.add(train[0], measured(1e-3, table.target), TRAIN)
    table.add(held_out[0], measured(1e-3, table.target), TRAIN)
    more, others = left(5)
    assert len(more) == 3
    assert table.networks.keys().isdisjoint(item.digest for item in more + others)
    assert len(others) == 2
    assert left(2)[0] == left(1)[0] == []
    for node in nodes(train[0], None, 3, 10):
        table.add_node(node, 1e-4)
    taken = [item.digest for item in (*others, *(item.architecture for item in table.of_role(TRAIN)))]
    expected = covering(TINY, 3, 0, 3, 10, taken=taken, measured=table.nodes.keys())
    assert {item.digest for item in left(5)[0]} == {item.digest for item in expected}
    assert expected != covering(TINY, 3, 0, 3, 10, taken=taken)


def test_a_table_of_another_machine_or_library_is_refused_and_a_small_change_recorded(tmp_path):
    path = tmp_path / "table.json"
    options = {"num_classes": 10, "train": 1, "held_out": 1, "seconds": 0.1}
    whole = profile(SPACE, Target(), path, **options)
    for name in ("cpu", "torch", "runtime", "gpu"):
        LatencyTable(**{**vars(whole), "environment": whole.environment | {name: "another"}}).save(path)
        with pytest.raises(FileError, match=f"measured elsewhere: {name} was another, is .*; go on there"):
            profile(SPACE, Target(), path, **options)
    LatencyTable(**{**vars(whole), "environment": whole.environment | {"python": "3.0"}}).save(path)
    table = profile(SPACE, Target(), path, **options)
    assert table.breaks == [f"python was 3.0, is {whole.environment['python']}"]
    assert any("changed between sessions: python was 3.0" in text for text in remarks(table))


def test_two_boards_of_one_processor_are_two_machines():
    known = {"cpu": "Cortex-A76", "board": "Raspberry Pi 5"}
    assert differences(known, known | {"board": "Orange Pi 5"}) == ["board was Raspberry Pi 5, is Orange Pi 5"]


def test_node_times_of_a_target_elsewhere_are_taken_on_one_machine(tmp_path, monkeypatch):
    table = LatencyTable(Target("cpu", "onnxruntime", place="10.0.0.7:7070"), "tiny", environment={"runtime": "onnxruntime 1"})
    (node, *_) = nodes(SPACE.smallest(), None, 3, 10)

    def timed(what):
        session = latency_profile._Session(SPACE, table, tmp_path / "t.json", 2, 1)
        session._time(lambda: [(node, what)], lambda *report: None)

    timed(1.0)
    timed(2.0)
    here = environment()
    assert table.environment["client"]["cpu"] == here["cpu"]
    monkeypatch.setattr(latency_profile, "environment", lambda: here | {"cpu": "another laptop's"})
    with pytest.raises(FileError, match=r"taken on another machine than this: cpu was .*, is another laptop's; go on there"):
        timed(3.0)
    assert table.nodes[node.key].samples == (1.0, 2.0)


def test_a_table_that_another_process_is_filling_is_left_to_it(tmp_path):
    path = tmp_path / "table.json"
    with sole_writer(path), pytest.raises(FileError, match=r"another process is writing .*table.json; wait for it, or write"):
        profile(SPACE, Target(), path, num_classes=10, train=1, held_out=1, seconds=0.1)
    assert not list(tmp_path.iterdir())
    with sole_writer(path):
        pass


def test_the_table_of_another_target_or_question_is_refused(tmp_path):
    path = tmp_path / "table.json"
    LatencyTable(Target(threads=2), SPACE.name).save(path)
    with pytest.raises(FileError, match="not cpu:eager,threads=1"):
        profile(SPACE, Target(), path, seconds=0.1)
    LatencyTable(Target(), SPACE.name, num_classes=1000).save(path)
    with pytest.raises(FileError, match="num_classes"):
        profile(SPACE, Target(), path, num_classes=10, seconds=0.1)


def test_nodes_timed_in_place_are_the_nodes_of_the_network():
    architecture = SPACE.sample(random.Random(5))
    found = time_in_place([architecture], LatencyTable(Target(), num_classes=10))
    assert [node for node, _ in found] == list(nodes(architecture, None, 3, 10))
    assert all(seconds > 0 for _, seconds in found)


def test_every_node_of_random_networks_can_be_repeated():
    found = {node.kind: node for i in range(30) for node in nodes(TINY.sample(random.Random(i)), None, 3, 10)}
    assert {"stem", "token_mixer", "channel_mixer", "downsample", "split", "branch", "concat", "head"} <= found.keys()
    for node in found.values():
        out = Repeated(node, 3).eval()(node_example(node, 2))
        assert len(out) in (1, 3)
        height, width, channels = node.out_shape
        assert all(tensor.shape in ((2, height, width, channels), (2, channels)) for tensor in out)


def test_repeated_nodes_have_times():
    group = nodes(SPACE.sample(random.Random(2)), None, 3, 10)[:2]
    assert all(seconds > 0 for _, seconds in time_repeated(group, LatencyTable(Target(), num_classes=10)))


def test_a_difference_is_of_the_copies_and_never_below_zero():
    def measured(seconds):
        return Measurement(seconds, seconds, seconds, seconds, seconds, 1, 0.0, 0.0, "", 1)

    assert difference(measured(1.5), measured(5.5)) == pytest.approx(1.0)
    assert difference(measured(5.0), measured(4.9)) == pytest.approx(0.1 * 4.9 / 5)


def test_the_estimate_is_at_least_the_default_and_grows_with_the_networks():
    before = torch.get_num_threads()
    few = profile_cost(SPACE, Target(), train=4, held_out=2)
    many = profile_cost(SPACE, Target(), train=4000, held_out=2)
    assert default_seconds(Target(), 6) <= few.total < many.total
    assert torch.get_num_threads() == before


def test_the_cost_is_not_that_of_the_first_preparation(monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def prepare(model, target, side):
        clock.now += 1.0 if clock.now else 100.0
        return lambda: None

    monkeypatch.setattr(cost_of_profiles, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(cost_of_profiles, "prepare", prepare)
    monkeypatch.setattr(cost_of_profiles, "measure_runs", lambda *given, **options: [SimpleNamespace(median=1e-3)])
    assert profile_cost(SPACE, Target(), train=4, held_out=2).preparing == 6.0


def test_fewer_networks_are_usual_where_they_are_exported_and_chosen(monkeypatch):
    monkeypatch.setattr(cost_of_profiles, "_one_network", lambda space, target: (1.0, 1e-3))
    exported = Target.parse("cpu:onnxruntime")
    assert numbers(exported, None, None) < numbers(Target(), None, None)
    assert numbers(exported, 50, None) == (50, numbers(exported, None, None)[1])
    assert profile_cost(SPACE, exported).networks == sum(numbers(exported, None, None))


def test_the_cost_holds_what_training_networks_bring_unless_a_budget_pays_for_it(monkeypatch):
    monkeypatch.setattr(cost_of_profiles, "_one_network", lambda space, target: (0.0, 0.1))
    assert profile_cost(SPACE, Target(), train=10, held_out=0).nodes == pytest.approx(
        cost_of_profiles.NODE_SECONDS + cost_of_profiles.LOOKED_SECONDS + 10 * 0.1 * VISITS * (WARM + PASSES)
    )
    assert profile_cost(SPACE, Target(), train=10, held_out=0, seconds=100.0).nodes == 50.0
    compiled = profile_cost(SPACE, Target(runtime="compile"), train=10, held_out=0)
    assert compiled.nodes == cost_of_profiles.NODE_SECONDS + cost_of_profiles.LOOKED_SECONDS


def test_the_cost_is_told_in_parts_and_only_for_what_is_missing(tmp_path):
    whole = profile_cost(SPACE, Target(), train=30, held_out=10)
    assert whole.total == whole.nodes + whole.preparing + whole.measuring
    assert str(whole).count("for node times") == 1
    assert "to prepare 40 networks" in str(whole)
    table = profile(SPACE, Target(), tmp_path / "t.json", num_classes=10, train=2, held_out=1, seconds=0.2)
    rest = profile_cost(SPACE, Target(), train=30, held_out=10, table=table)
    assert rest.networks == 37
    assert rest.nodes < whole.nodes
    assert profile_cost(SPACE, Target(), train=2, held_out=1, seconds=0.2, table=table).total == 0
