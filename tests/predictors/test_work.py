"""Work of nodes, its laws, and the times that it is priced at."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import nas
from nas.predictors.cost import node_cost
from nas.predictors.latency_table import LatencyTable, NodeTime
from nas.predictors.node_features import NodeFeatures
from nas.predictors.node_times import NodeTimes
from nas.predictors.roofline import Roofline
from nas.predictors.target import Target
from nas.predictors.work import RESOURCES, SIZED, operations
from nas.predictors.work import amounts as amounts_of
from nas.predictors.work_laws import _law, _traced, work
from nas.search_spaces import registry
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind, operators

MACS = [number for number, name in enumerate(RESOURCES) if name.endswith("MACs")]


def tiny_nodes(number):
    space = nas.load_space("tiny")
    found = {}
    for index in range(number):
        found |= {node.key: node for node in nodes(space.sample(random.Random(index)), None, 3, 10)}
    return list(found.values())


def mixer(operator, side, width, kind="token_mixer", **chosen):
    shape = (side, side, width)
    return Node("x", "x", kind, operator, tuple(sorted(chosen.items())), "layer", shape, shape, (), residual="layer_scale")


def amount(found, name):
    return found[RESOURCES.index(name)]


@pytest.mark.parametrize(
    "node",
    [
        mixer("mlp", 8, 32, "channel_mixer", expansion=2),
        mixer("depthwise_conv", 14, 24, kernel=5, dilation=1),
        mixer("window_attention", 16, 32, heads=2, window=4, shift=False),
        mixer("mbconv", 8, 16, kernel=3, ratio=3),
        mixer("linear_attention", 8, 32, heads=2, kernel=3, window=4),
    ],
    ids=lambda node: node.operator,
)
def test_a_traced_node_has_the_macs_that_the_cost_counter_finds(node):
    assert _traced(node.key, node)[MACS].sum() == node_cost(node).macs


@settings(max_examples=6, deadline=None)
@given(side=st.integers(1, 14).map(lambda n: 4 * n), width=st.integers(1, 12).map(lambda n: 16 * n))
def test_a_law_tells_the_macs_of_sizes_that_were_never_traced(side, width):
    for node in (
        mixer("mlp", side, width, "channel_mixer", expansion=3),
        mixer("depthwise_conv", side, width, kernel=3, dilation=2),
        mixer("window_attention", side, width, heads=4, window=4, shift=False),
        mixer("global_attention", side, width, heads=2),
    ):
        assert work([node])[0][MACS].sum() == pytest.approx(node_cost(node).macs, rel=1e-3)


def test_windows_that_do_not_divide_the_map_cost_what_they_are_padded_to():
    odd, even = (work([mixer("window_attention", side, 32, heads=2, window=8, shift=False)])[0] for side in (17, 24))
    assert odd[MACS].sum() == pytest.approx(even[MACS].sum())


@pytest.mark.parametrize(("window", "side", "width"), [(2, 16, 32), (4, 8, 24), (4, 17, 48)])
def test_attention_counts_one_product_for_each_head_of_each_window(window, side, width):
    found = work([mixer("window_attention", side, width, heads=4, window=window, shift=False)])[0]
    assert amount(found, "attention matrices") == pytest.approx(4 * math.ceil(side / window) ** 2)


def test_what_is_pooled_counts_again_where_channels_fill_no_whole_vectors():
    whole, ragged, none = work(
        [mixer("pooling", 16, 32, pool=5), mixer("pooling", 16, 24, pool=5), mixer("global_attention", 16, 24, heads=2)]
    )
    assert amount(whole, "pooled, ragged") == amount(none, "pooled, ragged") == 0
    assert amount(ragged, "pooled, ragged") == amount(ragged, "pooled") == pytest.approx(amount(whole, "pooled") * 24 / 32)


def test_laws_of_a_space_agree_with_traces():
    items = tiny_nodes(3)
    told, traced = work(items), np.stack([_traced(node.key, node) for node in items])
    assert np.median(np.abs(told[:, MACS].sum(1) / np.maximum(traced[:, MACS].sum(1), 1) - 1)) < 0.01
    moved = RESOURCES.index("moved")
    has = traced[:, moved] > 0
    assert np.median(np.abs(np.log(told[has, moved] / traced[has, moved]))) < 0.1


def node_of(op):
    """A node that runs an operator, None where it is legal nowhere here or reads more than one map."""
    side = 64 if op.kind == Kind.STEM else 12
    legal = op.legal_settings(96, side)
    if not legal or op.side or op.emits:
        return None
    into = {Kind.STEM: 3, Kind.DOWNSAMPLE: 48}.get(op.kind, 96)
    shape = {Kind.HEAD: (1, 1, 10)}.get(op.kind, (*op.map_after(side, side, legal[0]), 96))
    residual = "layer_scale" if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER) else ""
    return Node("x", "x", op.kind, op.name, legal[0], "layer", (side, side, into), shape, (), residual=residual)


def test_every_operator_has_about_the_work_that_is_traced_in_its_place():
    kinds = (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER, Kind.STEM, Kind.DOWNSAMPLE, Kind.HEAD)
    items = [node for kind in kinds for op in operators(kind) if (node := node_of(op)) is not None]
    told, traced = work(items), np.stack([_traced(node.key, node) for node in items])
    ratio = (told[:, MACS].sum(1) + 1) / (traced[:, MACS].sum(1) + 1)
    assert {node.operator: value for node, value in zip(items, ratio, strict=True) if not 0.5 < value < 2} == {}
    assert np.mean(np.abs(np.log(ratio)) < 0.02) > 0.75


class Thirds(nn.Module):
    """A mixer that runs on widths that divide by three, whatever its rule says, and takes settings of any kind."""

    def __init__(self, width, size, *, shift, pattern):
        super().__init__()
        self.inner = nn.Linear(width // 3, width // 3)

    def forward(self, x):
        return self.inner(x.unflatten(-1, (3, -1))).flatten(-2)


@pytest.fixture
def thirds():
    """Registered without a rule on its widths; forgotten again afterwards."""
    registry.operators()
    given = {"shift": registry.Setting((-2, 0, 2)), "pattern": registry.Setting(("rows", 3))}
    registry.register("thirds", Kind.TOKEN_MIXER, cite="none", settings=given)(Thirds)
    yield lambda width, **chosen: mixer("thirds", 7, width, **chosen)
    del registry._REGISTRY[Kind.TOKEN_MIXER, "thirds"]
    _law.cache_clear()


def test_an_operator_whose_rule_allows_what_it_cannot_run_is_traced_where_it_runs(thirds):
    (found,) = work([thirds(33, shift=0, pattern="rows")])
    assert found[MACS].sum() == pytest.approx(7 * 7 * 3 * 11 * 11)


def test_settings_of_every_kind_and_sign_are_features(thirds):
    known = [thirds(width, shift=shift, pattern=pattern) for width in (24, 33) for shift in (-2, 2) for pattern in ("rows", 3)]
    x, expected = NodeFeatures.of(known, np.full(len(known), 1e-4))(known)
    assert np.isfinite(x).all()
    assert np.isfinite(expected).all()
    assert len(np.unique(x, axis=0)) == len(known)


def test_knowing_the_work_of_nodes_leaves_random_numbers_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    work([mixer("mlp", 6, 40, "channel_mixer", expansion=4)])
    operations(lambda: nn.Linear(3, 3), [(4, 3)])
    assert torch.equal(torch.rand(2), expected)


class Attention(nn.Module):
    """Attention whose values have a width of their own."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x[..., : self.value])


@pytest.mark.parametrize(("value", "name"), [(8, "attention MACs"), (4, "unfused attention MACs")])
def test_attention_is_unfused_where_values_have_another_width_than_queries(value, name):
    found = [amounts_of(item) for item in operations(lambda: Attention(value), [(2, 10, 8)])]
    assert sum(item.get(name, 0) for item in found) == 2 * 10 * 10 * (8 + value)


def test_outputs_count_as_large_from_their_size_on():
    name = "written, 1 MiB"
    assert SIZED[name] == 1 << 18
    small, large = work([mixer("mlp", side, 64, "channel_mixer", expansion=2) for side in (16, 64)])
    assert amount(small, name) == 0
    assert amount(large, name) >= 64 * 64 * 128


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), constant=st.floats(1e-6, 1e-4))
@example(seed=175, constant=2.0**-14)
def test_prices_are_found_again_though_a_few_measurements_were_disturbed(seed, constant):
    rng = np.random.default_rng(seed)
    amounts = np.exp(rng.normal(0, 2, (80, 3)))
    prices = np.array([1e-5, 0.0, 3e-5])
    seconds = constant + amounts @ prices
    disturbed = seconds.copy()
    disturbed[:5] *= 4
    found = Roofline.fit(amounts, disturbed)
    assert (found.prices >= 0).all()
    assert found(amounts) == pytest.approx(seconds, rel=0.05)
    assert found.shares(amounts).sum(1) == pytest.approx(1)


def test_what_no_node_has_gets_no_price():
    amounts = np.array([[1.0, 0.0], [2.0, 0.0], [5.0, 0.0]])
    assert Roofline.fit(amounts, amounts[:, 0]).prices[2] == 0


def test_nodes_that_were_not_measured_are_told_by_their_work():
    items, rng = tiny_nodes(16), np.random.default_rng(0)
    prices = dict.fromkeys(RESOURCES, 0.0) | {"operations": 5e-6, "products": 1e-5, "product MACs": 1e-9, "moved": 1e-9}
    seconds = work(items) @ np.array(list(prices.values())) + 1e-5
    table = LatencyTable(Target.parse("cpu:eager"))
    for node, value in zip(items[::2], seconds[::2] * np.exp(rng.normal(0, 0.02, len(items[::2]))), strict=True):
        table.nodes[node.key] = NodeTime(node, (float(value),))
    found = np.array([item.seconds for item in NodeTimes.fit(table)(items[1::2])])
    assert np.median(np.abs(found / seconds[1::2] - 1)) < 0.03
    assert np.abs(found / seconds[1::2] - 1).max() < 0.3


def test_a_node_much_larger_than_all_measured_ones_takes_time_with_its_work():
    mixers = (("global_attention", {"heads": 2}), ("depthwise_conv", {"kernel": 3, "dilation": 1}))
    sizes = [(side, width) for side in (4, 6, 8, 10, 12, 14) for width in (16, 32, 64)]
    known = [mixer(name, side, width, **chosen) for side, width in sizes for name, chosen in mixers]
    prices = np.zeros(len(RESOURCES))
    prices[RESOURCES.index("attention MACs")], prices[RESOURCES.index("operations")] = 1e-9, 1e-6
    table = LatencyTable(Target.parse("cpu:eager"))
    for node, value in zip(known, work(known) @ prices + 1e-6, strict=True):
        table.nodes[node.key] = NodeTime(node, (float(value),))
    large = mixer("global_attention", 40, 64, heads=2)
    (found,) = NodeTimes.fit(table)([large])
    truth = float(work([large])[0] @ prices)
    assert truth / 2 < found.seconds < 2 * truth
    assert found.strange > 0


def test_listening_to_operations_loads_no_compiler():
    """It takes seconds to load; in a process of its own, as other tests need it."""
    script = (
        "import sys; from functools import partial; from torch import nn; from nas.predictors.work import operations; "
        "print(len(operations(partial(nn.Linear, 4, 2), [(4,)])), 'torch._dynamo' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "False"]
