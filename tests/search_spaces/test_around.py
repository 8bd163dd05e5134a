"""The space around a backbone: the backbone is its largest member, and every other one is a smaller part of it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
from pathlib import Path

import pytest

import nas
from nas.errors import SpaceError, UnknownNameError
from nas.search_spaces.anchored import SpaceAround
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.around import around
from nas.search_spaces.complexity import block_macs
from nas.search_spaces.registry import Kind
from nas.search_spaces.shrinking import shrunk
from nas.search_spaces.space import SearchSpace

FAMILIES = (
    "caformer_s18", "convformer_s18", "convnext_atto", "convnextv2_atto", "deit_t", "focalnet_t_srf", "inception_next_atto",
    "mambaout_femto", "poolformer_s12", "poolformerv2_s12", "pvt_v2_b0", "swin_t", "swinv2_t_w8",
)  # fmt: skip
load = functools.cache(nas.load_space)
MLP = Op.of("mlp", expansion=3)


def two_stages(*, split: bool = False) -> Architecture:
    """A backbone of few choices: windows that shift in the second block, other expansions, a block without token mixer."""
    window = (
        Op.of("window_attention", heads=2, window=4, shift=False),
        Op.of("window_attention", heads=2, window=4, shift=True),
    )
    first = Stage(16, "layer", None, tuple(Block((op,), MLP) for op in window), Op("plain"))
    pair = Block((Op.of("pooling", pool=5), Op.of("pooling", pool=3)), None, 0.5)
    second = Stage(24, "batch", Op("conv"), (pair if split else Block((), MLP), Block((Op.of("pooling", pool=5),), None)))
    return Architecture(32, Op.of("patchify", stride=4), (first, second), stem_norm="batch")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_largest_member_is_the_backbone_whatever_is_drawn(name: str) -> None:
    backbone = nas.catalog.get(name)
    space = load(f"around:{name}")
    assert space.name == f"around_{name}"
    assert space.largest() == backbone
    assert space.largest(random.Random(1)) == backbone
    assert space.contains(backbone)


@pytest.mark.parametrize("name", FAMILIES)
def test_members_are_legal_and_come_back_from_their_genotypes(name: str) -> None:
    space, rng = load(f"around:{name}"), random.Random(name)
    member = space.sample(rng)
    for found in (space.smallest(), member, space.mutate(member, rng), space.crossover(member, space.sample(rng), rng)):
        found.check()
        genes = space.encode(found)
        assert space.decode(genes) == found
        assert space.encode(space.decode(genes)) == genes
    assert len({found.digest for found in itertools.islice(space.neighbours(member), 8)}) == 8


def few_members() -> SpaceAround:
    choices = {"window": (2,), "expansion": (2,)}
    mixers = (("window_attention", "pooling"), ("pooling",))
    widths = ((16,), (16, 24))
    return dataclasses.replace(around(two_stages()), resolutions=(16, 32), mixers=mixers, widths=widths, settings=choices)


def test_the_size_is_the_number_of_distinct_members() -> None:
    space = few_members()
    every = itertools.product(*(gene.choices for gene in space.genes))
    names = [gene.name for gene in space.genes]
    found = {space.decode(dict(zip(names, values, strict=True))) for values in every}
    assert space.size() == len(found) == 2 * (6 + 6**2) * 2 * (2 + 2)
    assert all(space.contains(member) for member in random.Random(0).sample(sorted(found, key=str), 20))


def test_genes_that_play_no_part_have_their_first_choice() -> None:
    space = few_members()
    dearest = space.encode(space.largest())
    found, active = space.encoded(space.decode({**dearest, "s0b0.mixer": "pooling"}))
    assert (found["s0b0.window"], found["s0b1.window"]) == (2, 4)
    assert {"s0b0.mixer", "s0b0.channel.expansion", "s0b1.mixer", "s0b1.window"} <= set(active)
    assert "s0b0.window" not in active
    shorter = space.encoded(space.decode({**dearest, "s0.depth": 1}))[1]
    assert [name for name in shorter if name.startswith("s0b")] == ["s0b0.mixer", "s0b0.window", "s0b0.channel.expansion"]


def test_heads_keep_their_width_in_a_narrower_stage() -> None:
    space = load("around:swin_t")
    genes = space.encode(space.largest())
    stage = space.decode({**genes, "s2.width": 192}).stages[2]
    assert [dict(block.mixers[0].settings)["heads"] for block in stage.blocks] == [6] * 6
    assert space.widths[2] == (192, 288, 384)


def test_a_shorter_stage_keeps_its_first_blocks_and_their_shifts() -> None:
    space = load("around:swin_t")
    stage = space.decode({**space.encode(space.largest()), "s2.depth": 3}).stages[2]
    assert stage.blocks == space.largest().stages[2].blocks[:3]
    assert [dict(block.mixers[0].settings)["shift"] for block in stage.blocks] == [False, True, False]


def test_other_mixers_cost_less_and_have_the_settings_of_the_blocks_own() -> None:
    space = load("around:caformer_s18")
    assert isinstance(space, SpaceAround)
    stage = space.anchor.stages[2]
    mixers = space.choices_at(2, stage.blocks[0])["mixer"]
    assert mixers[-1] == "global_attention"
    assert {"pooling", "neighbourhood_attention"} <= set(mixers)
    member = space.decode({**space.encode(space.largest()), "s2b0.mixer": "window_attention"})
    settings = dict(member.stages[2].blocks[0].mixers[0].settings)
    assert (settings["bias"], settings["out"], settings["heads"]) == (False, "plain", 10)


def test_every_choice_of_a_block_costs_at_least_as_much_as_those_before_it() -> None:
    space = load("around:pvt_v2_b0")
    genes = space.encode(space.largest())
    for gene in space.genes:
        costs = [block_macs(space.decode({**genes, gene.name: choice})) for choice in gene.choices]
        assert costs == sorted(costs), gene.name


def test_what_a_smaller_map_forbids_takes_the_nearest_legal_value() -> None:
    shifted = Op.of("window_attention", heads=4, window=7, shift=True, position="none")
    found = shrunk(Kind.TOKEN_MIXER, shifted, before=32, width=24, size=2)
    assert found == Op.of("window_attention", heads=3, window=2, shift=False, position="none")


def test_blocks_without_a_mixer_and_with_two_are_narrowed_too() -> None:
    space = around(two_stages(split=True))
    block = space.decode({**space.encode(space.largest()), "s1.width": 16}).stages[1].blocks[0]
    assert block.split == 0.5
    assert len(block.mixers) == 2


def test_a_space_survives_its_mapping() -> None:
    space = load("around:pvt_v2_b0")
    assert SearchSpace.from_mapping(json.loads(json.dumps(space.to_mapping()))) == space


def test_a_yaml_file_overrides_the_space_around_a_backbone(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("preset: around:convnext_atto\nresolutions: [64, 128]\ndepths: [[2], [2], [2, 6], [1, 2]]\n")
    space = nas.load_space(path)
    assert (space.name, space.resolutions, space.depths[2]) == ("small", (64, 128), (2, 6))
    assert [len(stage.blocks) for stage in space.largest().stages] == [2, 2, 6, 2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("overlock_t", "it has an overview branch beside the stream"),
        ("fcaformer_l1", "'summarising_conv', which hands on summary"),
        ("transxnet_t", "'pair_positions', which hands on positions"),
    ],
)
def test_a_backbone_whose_blocks_read_each_other_is_refused(name: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        nas.load_space(f"around:{name}")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"depths": ((1,), (1, 2))}, SpaceError, r"the largest of depths\[0\] .* must be its anchor's 2, got 1"),
        ({"widths": ((8, 16, 32), (24,))}, SpaceError, r"the largest of widths\[0\] .* must be its anchor's 16, got 32"),
        ({"widths": ((16,), (20, 24)), "depths": ((2,),)}, SpaceError, "must have one list a stage"),
        ({"widths": ((3, 16), (24,))}, SpaceError, "3 channels"),
        ({"mixers": (("window_atention",), ("pooling",))}, UnknownNameError, "Did you mean 'window_attention'?"),
        ({"settings": {"windw": (4,)}}, UnknownNameError, "Did you mean 'window'?"),
        ({"stems": ("conv",)}, UnknownNameError, "unknown search-space field 'stems'"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SearchSpace.from_mapping(fields, around(two_stages()))


def test_a_stranger_is_no_member() -> None:
    space = around(two_stages())
    assert not space.contains(nas.catalog.get("convnext_atto"))
    assert not space.contains(two_stages(split=True))
    with pytest.raises(SpaceError):
        space.encode(two_stages(split=True))
