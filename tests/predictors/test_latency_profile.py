import random

import pytest
import torch

from nas.errors import FileError
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import default_seconds, networks_of, profile, profile_estimate
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.node_timing import Repeated, difference, node_example, time_in_place, time_repeated
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")


class KilledError(Exception):
    pass


def test_networks_are_distinct_repeatable_and_never_in_both_roles():
    wanted = list(networks_of(SPACE, 3, 12, 6))
    assert wanted == list(networks_of(SPACE, 3, 12, 6))
    assert wanted != list(networks_of(SPACE, 4, 12, 6))
    assert [role for _, role in wanted] == [TRAIN] * 12 + [HELD_OUT] * 6
    assert len({architecture.digest for architecture, _ in wanted}) == 18


def test_a_killed_profile_goes_on_where_it_stopped_and_fits(tmp_path):
    path = tmp_path / "table.json"

    def kill(done, total, label):
        if done >= 4:
            raise KilledError

    options = {"num_classes": 10, "train": 8, "held_out": 2, "seconds": 2.0}
    with pytest.raises(KilledError):
        profile(SPACE, Target(), path, progress=kill, **options)
    before = LatencyTable.load(path, Target())
    assert before.nodes
    assert before.spent > 0
    seen = []
    table = profile(SPACE, Target(), path, progress=lambda *report: seen.append(report), **options)
    assert {digest: table.networks[digest] for digest in before.networks} == before.networks
    assert table.anchor == before.anchor
    assert seen[-1][:2] == (10, 10)
    assert (len(list(table.of_role(TRAIN))), len(list(table.of_role(HELD_OUT)))) == (8, 2)
    assert LatencyTable.load(path, Target()) == table
    assert LatencyPredictor.fit(table).predict([SPACE.sample(random.Random(0))]).mean[0] > 0


def test_a_finished_profile_measures_nothing_again(tmp_path):
    path = tmp_path / "table.json"
    first = profile(SPACE, Target(), path, num_classes=10, train=2, held_out=1, seconds=0.5)
    second = profile(SPACE, Target(), path, num_classes=10, train=2, held_out=1, seconds=0.5)
    assert (second.nodes, second.networks) == (first.nodes, first.networks)


def test_the_table_of_another_target_or_question_is_refused(tmp_path):
    path = tmp_path / "table.json"
    LatencyTable(Target(threads=2), "tiny").save(path)
    with pytest.raises(FileError, match="not cpu:eager,threads=1"):
        profile(SPACE, Target(), path, seconds=0.1)
    LatencyTable(Target(), "tiny", num_classes=1000).save(path)
    with pytest.raises(FileError, match="num_classes"):
        profile(SPACE, Target(), path, num_classes=10, seconds=0.1)


def test_nodes_timed_in_place_are_the_nodes_of_the_network():
    architecture = SPACE.sample(random.Random(5))
    found = time_in_place(architecture, LatencyTable(Target(), num_classes=10))
    assert [node for node, _ in found] == list(nodes(architecture, None, 3, 10))
    assert all(seconds > 0 for _, seconds in found)


def test_every_node_of_random_networks_can_be_repeated():
    found = {node.kind: node for i in range(30) for node in nodes(SPACE.sample(random.Random(i)), None, 3, 10)}
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
    few = profile_estimate(SPACE, Target(), train=4, held_out=2)
    many = profile_estimate(SPACE, Target(), train=4000, held_out=2)
    assert default_seconds(Target(), 6) <= few < many
    assert torch.get_num_threads() == before
