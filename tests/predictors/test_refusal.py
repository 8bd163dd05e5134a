import copy
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import MeasurementError
from nas.predictors import census, coverage, device, latency_profile
from nas.predictors import runtime as registry
from nas.predictors.export_pool import ExportPool
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.measure import measure_runnable
from nas.predictors.network_profile import NetworkProfile
from nas.predictors.node_times import operators_of
from nas.predictors.profile_cost import profile_cost
from nas.predictors.profiled_networks import networks_of
from nas.predictors.refusal import blame, refusals, share_of
from nas.predictors.remarks import remarks
from nas.predictors.runtime import register, runtime
from nas.predictors.samples import read_samples, samples_path, unrecorded
from nas.predictors.target import Target
from nas.search_spaces.backbone import build
from nas.search_spaces.exclusion import operators_in, traits, without
from nas.search_spaces.graph import nodes
from nas.search_spaces.operators.token_mixers.linear_attention import LinearAttention
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace

SPACE = SearchSpace.from_mapping(
    {"name": "two", "depths": [[1], [1]], "widths": [[8], [16]], "mixers": ["pooling", "depthwise_conv", "linear_attention"],
     "splits": [1.0], "stems": ["patchify"], "stem_stride": 4, "channel_mixers": ["mlp", "gated_mlp"],
     "norms": ["layer", "batch"], "downsamples": ["conv"], "placements": ["free"], "strides": []},
    load_space("tiny"),
)  # fmt: skip
OPTIONS = {"in_channels": 1, "num_classes": 10, "train": 8, "held_out": 2, "seconds": 0.2}
CHIP = "toychip:toy"


@pytest.fixture
def toy(monkeypatch):
    """A device of which a test says what it refuses (class names), and after how many runs it disappears."""
    runtime("eager")
    monkeypatch.setattr("nas.predictors.runtime._REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr("nas.predictors.device._REGISTRY", dict(device._REGISTRY))
    monkeypatch.setattr(latency_profile, "anchor_seconds", lambda target: 1e-3)
    monkeypatch.setattr(latency_profile, "COOLING_SECONDS", 0.0)

    @register
    class Toy:
        name, preparation = "toy", 0.0
        supports = {"toychip": ("fp32",)}  # noqa: RUF012
        refused, heavy, runs_left = (), (), 10**9
        release = "toy 1"

        def prepare(self, model, example, target):
            names = {type(module).__name__ for module in model.modules()}
            if names & set(self.refused):
                raise NotImplementedError(f"no kernel for {sorted(names & set(self.refused))[0]}\nlong trace")
            module = copy.deepcopy(model).eval()

            def run():
                if Toy.runs_left <= 0 or names & set(Toy.heavy):
                    raise RuntimeError("link lost")
                Toy.runs_left -= 1
                with torch.inference_mode():
                    module(example)

            return run

        def version(self):
            return Toy.release

    return Toy


def test_the_operator_to_blame_is_found_by_running_its_node_alone(toy):
    toy.refused = ("LinearAttention",)
    target = Target.parse(CHIP)
    member = next(m for m in map(member_of, range(50)) if "token_mixer:linear_attention" in operators_in(m))
    (found,) = refusals(member, SPACE, target, 1, 10)
    assert found.label == "token_mixer:linear_attention"
    assert found.reason == "runtime 'toy' cannot run the network: no kernel for LinearAttention"
    assert found.share == share_of(SPACE, [found.label])[found.label]
    assert 0.3 < found.share < 0.8


def member_of(index):
    return SPACE.sample(random.Random(index))


@given(
    st.sets(st.sampled_from(sorted({label for i in range(20) for label in operators_in(member_of(i))})), min_size=1, max_size=2)
)
def test_all_that_is_refused_is_explained_by_what_is_blamed(guilty):
    found = {node.key: node for i in range(20) for node in nodes(member_of(i))}.values()
    refused = {node: traits(node) for node in found if traits(node) & guilty}
    blamed = blame(refused, [traits(node) for node in found if node not in refused])
    assert all(labels & set(blamed) for labels in refused.values())
    assert len(blamed) <= max(len(guilty), 1) or not set(blamed) <= guilty


def test_a_norm_that_several_operators_have_in_common_is_blamed_and_not_they():
    nodes_ = {"a": frozenset({"token_mixer:a", "norm:batch"}), "b": frozenset({"token_mixer:b", "norm:batch"})}
    passed = [frozenset({"token_mixer:a", "norm:layer"}), frozenset({"token_mixer:b", "norm:layer"})]
    assert blame(nodes_, passed) == ["norm:batch"]


def test_an_operator_that_runs_with_other_settings_is_blamed_where_nothing_else_explains_it():
    labels = frozenset({"token_mixer:a", "norm:layer"})
    assert blame({"a": labels}, [labels]) == ["token_mixer:a"]


def test_a_profile_goes_on_without_the_refused_operator_and_says_so(toy, tmp_path):
    toy.refused = ("LinearAttention",)
    table = profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **OPTIONS)
    assert table.excluded == {"token_mixer:linear_attention"}
    assert (len(list(table.of_role(TRAIN))), len(list(table.of_role(HELD_OUT)))) == (8, 2)
    for item in table.networks.values():
        assert "token_mixer:linear_attention" not in operators_in(item.architecture)
    (told,) = (text for text in remarks(table) if "refuses" in text)
    assert "refuses token mixer 'linear_attention', which" in told
    assert "% of the architectures of 'two' have" in told
    assert "\n" not in told
    assert LatencyTable.load(tmp_path / "t.json") == table
    before = dict(table.networks)
    assert profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **OPTIONS).networks == before


def test_a_refused_operator_changes_no_other_draw():
    refused = {"token_mixer:linear_attention"}
    whole, rest = (dict(networks_of(SPACE, 0, 10, 5, labels)) for labels in ((), refused))
    kept = [member for member in whole if operators_in(member).isdisjoint(refused)]
    assert set(kept) <= set(rest)
    assert len(rest) == 15
    assert all(operators_in(member).isdisjoint(refused) for member in rest)


def test_a_network_that_fails_only_when_it_runs_is_refused_too(toy, tmp_path):
    toy.heavy = ("LinearAttention",)
    table = profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **OPTIONS)
    assert table.excluded == {"token_mixer:linear_attention"}
    assert "link lost" in table.refused["token_mixer:linear_attention"]["reason"]


@pytest.fixture
def by_repetition(monkeypatch):
    """Nodes are timed alone, as on a GPU."""
    for module in (census, coverage):
        monkeypatch.setattr(module, "in_place", lambda target: False)


@pytest.mark.parametrize("how", ["refused", "heavy"])
def test_nodes_that_are_refused_when_they_are_timed_alone_are_left_out_and_their_operator_is_recorded(
    toy, by_repetition, monkeypatch, tmp_path, how
):
    monkeypatch.setattr(latency_profile._Session, "measure_networks", lambda *given, **options: None)
    setattr(toy, how, ("LinearAttention",))
    table = profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **{**OPTIONS, "train": 2})
    label = "token_mixer:linear_attention"
    assert table.excluded == {label}
    assert ("no kernel" if how == "refused" else "link lost") in table.refused[label]["reason"]
    assert table.refused[label]["share"] == share_of(SPACE, [label])[label]
    assert {"token_mixer:pooling", "token_mixer:depthwise_conv"} <= operators_of(table.nodes.values())
    assert label not in operators_of(table.nodes.values())


def test_a_device_that_is_lost_while_nodes_are_timed_is_told_and_nothing_is_blamed(toy, by_repetition, tmp_path):
    toy.runs_left = 500
    with pytest.raises(MeasurementError, match=r"stopped answering after 0 of 10 networks: .*link lost"):
        profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **{**OPTIONS, "seconds": 4.0})
    kept = LatencyTable.load(tmp_path / "t.json")
    assert not kept.refused


def test_a_network_that_does_not_run_in_place_does_not_end_the_profile(monkeypatch, tmp_path):
    def fail(self, x):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(LinearAttention, "forward", fail)
    monkeypatch.setattr(latency_profile._Session, "measure_networks", lambda *given, **options: None)
    table = profile(SPACE, Target(), tmp_path / "t.json", **OPTIONS)
    label = "token_mixer:linear_attention"
    assert table.excluded == {label}
    assert "not implemented for 'BFloat16'" in table.refused[label]["reason"]
    assert {"token_mixer:pooling", "token_mixer:depthwise_conv"} <= operators_of(table.nodes.values())


def test_a_device_that_disappears_ends_the_profile_and_loses_nothing(toy, tmp_path):
    path = tmp_path / "t.json"
    whole = profile(SPACE, Target.parse(CHIP), tmp_path / "whole.json", **OPTIONS)
    used = sum(
        len(line["seconds"]) for line in read_samples(samples_path(tmp_path / "whole.json")) if line["what"] == "network"
    )
    toy.runs_left = used // 2
    with pytest.raises(
        MeasurementError, match=r"toychip:toy.* stopped answering after \d+ of 10 networks: .*link lost"
    ) as caught:
        profile(SPACE, Target.parse(CHIP), path, **OPTIONS)
    assert "the same command goes on" in str(caught.value)
    kept = LatencyTable.load(path)
    assert not kept.refused
    assert kept.nodes
    toy.runs_left = 10**9
    table = profile(SPACE, Target.parse(CHIP), path, **OPTIONS)
    assert table.networks.keys() == whole.networks.keys()
    assert {digest: table.networks[digest] for digest in kept.networks} == kept.networks


def test_a_device_that_never_answers_is_not_taken_for_refused_operators(toy, tmp_path):
    toy.runs_left = 0
    with pytest.raises(MeasurementError, match=r"after 0 of 10 networks: .* runs nothing of network"):
        profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **OPTIONS)
    assert not LatencyTable.load(tmp_path / "t.json").refused


def test_a_target_that_refuses_all_of_a_kind_is_an_error_of_one_line(toy, tmp_path):
    toy.refused = ("MLP", "GatedMLP")
    with pytest.raises(MeasurementError, match=r"refuses too much: .*channel_mixers") as caught:
        profile(SPACE, Target.parse(CHIP), tmp_path / "t.json", **OPTIONS)
    assert "\n" not in str(caught.value)


def test_networks_refused_for_no_operators_fault_are_told_and_limited(toy, monkeypatch):
    table = LatencyTable(replace(Target(), device="toychip", runtime="toy"), "two", 1, 10, anchor=1e-3)
    networks = NetworkProfile(SPACE, table, unrecorded, ExportPool(table.target, 10, 1))
    monkeypatch.setattr(networks, "_prepare", lambda architecture, file: (_ for _ in ()).throw(MeasurementError("too large")))
    with pytest.raises(MeasurementError, match="runs next to no network"):
        networks.measure([(member_of(index), TRAIN) for index in range(6)], latency_profile.Effort(0.05, rounds=1))
    assert not table.refused


def test_the_cost_is_that_of_a_network_that_runs_and_a_target_without_one_is_an_error(toy):
    toy.refused = ("LinearAttention",)
    space = without(SPACE, {"token_mixer:pooling", "token_mixer:depthwise_conv"})
    with pytest.raises(MeasurementError, match="no kernel for LinearAttention"):
        profile_cost(space, Target.parse(CHIP), train=4, held_out=2)
    assert profile_cost(SPACE, Target.parse(CHIP), train=4, held_out=2).networks == 6


def test_what_a_target_refuses_has_no_time_and_the_rest_has(toy):
    toy.refused = ("LinearAttention",)
    members = [member_of(index) for index in range(6)]
    models = [build(member, 10, 1) for member in members]
    effort = latency_profile.Effort(0.02, rounds=1)
    sides = [member.resolution for member in members]
    found = measure_runnable(models, Target.parse(CHIP), sides, in_channels=1, effort=effort)
    assert [item is None for item in found] == ["token_mixer:linear_attention" in operators_in(member) for member in members]
    toy.refused = ("Conv2d",)
    with pytest.raises(MeasurementError, match="no kernel for Conv2d"):
        measure_runnable(models, Target.parse(CHIP), sides, in_channels=1, effort=effort)
