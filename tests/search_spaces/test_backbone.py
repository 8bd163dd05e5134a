"""The builder: plain networks and feature pyramids from architectures."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

import nas
from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import nodes
from nas.search_spaces.registry import Kind, operator

PRESETS = [("tiny", 32), ("mobile", 96)]


@pytest.mark.parametrize(("preset", "side"), PRESETS)
@pytest.mark.parametrize("seed", range(3))
def test_logits_have_one_row_an_image(preset: str, side: int, seed: int) -> None:
    architecture = nas.load_space(preset).sample(random.Random(seed))
    model = nas.build(architecture, num_classes=11, in_channels=2)
    assert isinstance(model, nn.Module)
    logits = model(torch.randn(3, 2, side, side))
    assert logits.shape == (3, 11)
    assert logits.isfinite().all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 56), (37, 64), (128, 16)])
def test_networks_take_images_of_other_sizes(seed: int, height: int, width: int) -> None:
    model = nas.build(nas.load_space("tiny").sample(random.Random(seed)), 10, 1).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 1, height, width))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("preset", "side"), PRESETS)
def test_feature_maps_are_what_feature_info_says(preset: str, side: int) -> None:
    space = nas.load_space(preset)
    for seed in range(3):
        architecture = space.sample(random.Random(seed))
        pyramid = nas.build(architecture, in_channels=1, features_only=True)
        maps, info = pyramid(torch.randn(2, 1, side, side)), pyramid.feature_info
        assert len(maps) == len(info) == len(space.depths)
        assert [tuple(m.shape) for m in maps] == [
            (2, c, side // r, side // r) for c, r in zip(info.channels(), info.reduction(), strict=True)
        ]
        assert info.reduction() == [space.stem_stride * 2**stage for stage in range(len(maps))]
        assert info.channels() == [stage.width for stage in architecture.stages]
        assert info.get_dicts()[1] == info[1] == {
            "num_chs": info.channels()[1], "reduction": info.reduction()[1], "module": info.module_name()[1],
        }  # fmt: skip


def test_feature_maps_are_those_inside_the_classifier(handmade: Architecture) -> None:
    model, pyramid = nas.build(handmade, 10, 1).eval(), nas.build(handmade, in_channels=1, features_only=True).eval()
    pyramid.load_state_dict({k: v for k, v in model.state_dict().items() if "head" not in k})
    inside = {}
    for name, module in model.nodes.items():
        module.register_forward_hook(lambda _, __, out, name=name: inside.update({name: out}))
    image = torch.randn(2, 1, 32, 32)
    model(image)
    for name, found in zip(pyramid.feature_info.module_name(), pyramid(image), strict=True):
        assert torch.equal(found, inside[name].permute(0, 3, 1, 2))


def test_the_width_of_a_block_may_differ_from_its_stage(handmade: Architecture) -> None:
    pyramid = nas.build(handmade, in_channels=1, features_only=True)
    assert pyramid.feature_info.channels() == [24, 32]
    projections = {
        name: (m.linear.in_features, m.linear.out_features) for name, m in pyramid.nodes.items() if "projection" in name
    }
    assert projections == {"s0b1_projection": (16, 24), "s1b0_projection": (32, 64), "s1b1_projection": (64, 32)}
    assert [m.shape[1] for m in pyramid(torch.randn(1, 1, 32, 32))] == [24, 32]


def test_a_width_equal_to_the_stage_is_no_other_network(handmade: Architecture) -> None:
    data = handmade.to_mapping()
    data["stages"][0]["blocks"][0]["width"] = 16
    again = Architecture.from_mapping(data)
    assert [n.key for n in nodes(again)] == [n.key for n in nodes(handmade)]
    assert again.digest == handmade.digest


@pytest.mark.parametrize("seed", range(4))
def test_every_node_is_the_operator_that_the_graph_names(seed: int) -> None:
    architecture = nas.load_space("tiny").sample(random.Random(seed))
    model = nas.build(architecture, 10, 1)
    for node in nodes(architecture):
        if node.kind in set(Kind) and node.kind != Kind.HEAD:
            assert isinstance(model.nodes[node.name].op, operator(Kind(node.kind), node.operator).module)
        if node.norm:
            assert isinstance(model.nodes[node.name].norm, operator(Kind.NORM, node.norm).module)


def test_parallel_mixers_work_on_their_own_channels(handmade: Architecture) -> None:
    model = nas.build(handmade, 10, 1).eval()
    first, second = (model.nodes[f"s1b0_branch{i}"] for i in (0, 1))
    x = torch.randn(1, 16, 16, 64)
    for part, touched, other in ((slice(0, 16), first, second), (slice(16, 64), second, first)):
        changed = x.clone()
        changed[..., part] += torch.randn_like(x[..., part])
        assert not torch.equal(touched(x), touched(changed))
        assert torch.equal(other(x), other(changed))
    assert (first(x).shape[-1], second(x).shape[-1]) == (16, 48)


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_blocks_whose_mixers_give_nothing_pass_their_input_on(handmade: Architecture) -> None:
    model, x = nas.build(handmade, 10, 1).eval(), torch.randn(1, 16, 16, 16)
    for name in ("s0b0_mixer", "s0b0_channel"):
        assert not torch.equal(model.nodes[name](x), x)
        model.nodes[name].op = Nothing()
        assert torch.equal(model.nodes[name](x), x)
    x, first, second = (torch.randn(1, 4, 4, channels) for channels in (64, 16, 48))
    concat = model.nodes["s1b0_concat"]
    assert torch.equal(concat(x, first * 0, second * 0), x)
    assert torch.equal(concat(x, first, second * 0)[..., 16:], x[..., 16:])
    assert not (concat(x, first, second) == x).any()


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"in_channels": 0}])
def test_networks_need_a_class_and_a_channel(handmade: Architecture, options: dict[str, int]) -> None:
    with pytest.raises(SpaceError, match="must be at least 1"):
        nas.build(handmade, **options)
