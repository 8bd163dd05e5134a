"""The graph of an architecture: its form, and that its shapes are those of real forward passes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nas
from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture, Op, Stage
from nas.search_spaces.graph import IMAGE, branch_widths, nodes
from nas.search_spaces.space import SearchSpace

seeds = st.integers(0, 2**32)


def passed_shapes(architecture: Architecture, side: int, in_channels: int, num_classes: int) -> dict[str, Any]:
    """The shapes that a forward pass really gives: of every tensor read, by node, and of what comes out."""
    found: dict[str, Any] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, read: tuple[Tensor | None, ...], out: Tensor | tuple[Tensor, ...]) -> None:
            mixed = out[0] if isinstance(out, tuple) else out
            found[name] = [tuple(tensor.shape[1:]) for tensor in read if tensor is not None], tuple(mixed.shape[1:])

        return hook

    model = nas.build(architecture, num_classes, in_channels).eval()
    for name, module in model.nodes.items():
        module.register_forward_hook(watch(name))
    with torch.no_grad():
        model(torch.zeros(1, in_channels, side, side))
    return found


def assert_shapes_are_real(architecture: Architecture, side: int, in_channels: int = 1, num_classes: int = 7) -> None:
    graph = architecture.graph(side, in_channels, num_classes)
    found = passed_shapes(architecture, side, in_channels, num_classes)
    assert set(found) == set(graph) - {IMAGE}
    for node in nodes(architecture, side, in_channels, num_classes):
        read, out = found[node.name]
        if node.name == "stem":
            read = [(*shape[1:], shape[0]) for shape in read]
        assert out == (node.out_shape if node.name != "head" else node.out_shape[2:]), node.name
        assert read == [graph.edges[source, node.name]["shape"] for source in node.inputs], node.name
        part = read[0] if node.channels is None else (*read[0][:2], node.channels[1] - node.channels[0])
        assert part == node.in_shape, node.name


@pytest.mark.parametrize(("preset", "side", "draws"), [("tiny", 32, 12), ("tiny", 48, 4), ("mobile", 64, 5), ("base", 32, 1)])
def test_shapes_are_those_of_a_forward_pass(preset: str, side: int, draws: int) -> None:
    space, rng = nas.load_space(preset), random.Random(preset)
    for _ in range(draws):
        assert_shapes_are_real(space.sample(rng), side)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_shapes_are_those_of_a_forward_pass_in_any_space(spaces: Callable[[int], SearchSpace], seed: int) -> None:
    architecture = spaces(seed % 100).sample(random.Random(seed))
    assert_shapes_are_real(architecture, architecture.resolution, in_channels=3)


def test_shapes_are_those_of_a_forward_pass_where_the_width_changes_in_a_stage(handmade: Architecture) -> None:
    assert_shapes_are_real(handmade, 32)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_graph_is_an_acyclic_chain_of_inputs_before_their_readers(spaces: Callable[[int], SearchSpace], seed: int) -> None:
    architecture = spaces(seed % 100).sample(random.Random(seed))
    graph = architecture.graph()
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.is_weakly_connected(graph)
    assert [n for n in graph if graph.in_degree(n) == 0] == [IMAGE]
    assert [n for n in graph if graph.out_degree(n) == 0] == ["head"]
    seen = {IMAGE}
    for node in nodes(architecture):
        assert set(node.inputs) <= seen
        assert node.name not in seen
        seen.add(node.name)


def test_graph_is_frozen(handmade: Architecture) -> None:
    with pytest.raises(nx.NetworkXError):
        handmade.graph().remove_node("stem")


def test_graph_carries_the_operators_with_their_settings(handmade: Architecture) -> None:
    graph = handmade.graph(resolution=64, in_channels=1, num_classes=10)
    assert graph.graph["digest"] == handmade.digest
    assert graph.nodes["image"]["out_shape"] == (64, 64, 1)
    assert graph.nodes["s0b0_mixer"]["operator"] == "depthwise_conv"
    assert graph.nodes["s0b0_mixer"]["settings"] == {"kernel": 3, "dilation": 1}
    assert graph.nodes["s0b1_projection"]["out_shape"] == (32, 32, 24)
    assert set(graph.predecessors("s1b0_concat")) == {"s1b0_projection", "s1b0_branch0", "s1b0_branch1"}
    assert graph.nodes["s1b0_branch0"]["in_shape"] == (16, 16, 16)
    assert graph.nodes["head"]["out_shape"] == (1, 1, 10)
    assert "s0b2_channel" not in graph


def test_nodes_with_one_key_do_the_same_work(handmade: Architecture) -> None:
    found = {node.name: node.key for node in nodes(handmade)}
    assert found["s0b1_channel"] != found["s0b0_channel"]
    assert found["s0b1_projection"] != found["s1b0_projection"]
    twice = Architecture(32, handmade.stem, (Stage(16, "layer", None, (handmade.stages[0].blocks[0],) * 2),))
    keys = [node.key for node in nodes(twice)]
    assert keys[1:3] == keys[3:5]


@given(st.integers(2, 100), st.floats(0.01, 0.99))
def test_branches_share_the_channels_in_steps_of_eight(eighths: int, split: float) -> None:
    first, second = branch_widths(8 * eighths, split)
    assert first + second == 8 * eighths
    assert first % 8 == second % 8 == 0
    assert min(first, second) >= 8
    assert abs(first - 8 * eighths * split) <= 8


def test_narrow_maps_have_no_branches() -> None:
    with pytest.raises(SpaceError, match="at least 16 channels, got 8"):
        branch_widths(8, 0.5)


@pytest.mark.parametrize(
    ("resolution", "side", "expected"),
    [
        (33, None, "stem divides the map by 2, but it is 33x33"),
        (34, None, "the downsample before stage 1 divides the map by 2, but it is 17x17"),
        (32, 1, "divides the map by 2"),
    ],
)
def test_maps_that_do_not_divide_are_refused(handmade: Architecture, resolution: int, side: int | None, expected: str) -> None:
    with pytest.raises(SpaceError, match=expected):
        Architecture(resolution, handmade.stem, handmade.stages).graph(side)


def test_illegal_settings_are_refused_with_the_rule(handmade: Architecture) -> None:
    stem = Op.of("conv", stride=3)
    with pytest.raises(SpaceError, match="stride=3 of 'conv' is illegal"):
        Architecture(33, stem, handmade.stages[:1]).check()
