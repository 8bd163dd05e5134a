"""Genotypes and their phenotypes: encoding, counting, drawing and changing members of a space."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

import nas
from nas.errors import SpaceError
from nas.search_spaces import genotype
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.independence import Independence
from nas.search_spaces.placement import PLACEMENTS
from nas.search_spaces.registry import Group, Kind, Operator, Value, operator, operators
from nas.search_spaces.space import SearchSpace

Spaces = Callable[[int], SearchSpace]
seeds = st.integers(0, 2**32)
quick = settings(max_examples=60, deadline=None)


def drawn(space: SearchSpace, rng: random.Random) -> dict[str, Value]:
    return {gene.name: rng.choice(gene.choices) for gene in space.genes}


@given(seeds)
@quick
def test_decoding_an_encoded_architecture_gives_it_back(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    architecture = space.sample(random.Random(seed))
    genes = space.encode(architecture)
    assert list(genes) == [gene.name for gene in space.genes]
    assert space.decode(genes) == architecture
    assert space.encode(space.decode(genes)) == genes
    assert space.contains(architecture)
    architecture.check()


@given(seeds)
@quick
def test_silent_genes_do_not_matter(spaces: Spaces, seed: int) -> None:
    space, rng = spaces(seed % 100), random.Random(seed)
    architecture = space.decode(drawn(space, rng))
    genes, active = genotype.encode(space, architecture)
    noisy = {**drawn(space, rng), **{name: genes[name] for name in active}}
    assert space.decode(noisy).digest == architecture.digest


@given(seeds)
@quick
def test_active_genes_are_those_that_change_the_network(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    architecture = space.sample(random.Random(seed))
    genes, active = genotype.encode(space, architecture)
    for gene in space.genes:
        if gene.name not in active:
            assert {space.decode({**genes, gene.name: choice}) for choice in gene.choices} == {architecture}, gene.name


@given(seeds)
@quick
def test_mutation_stays_in_the_space_and_changes_the_network(spaces: Spaces, seed: int) -> None:
    space, rng = spaces(seed % 100), random.Random(seed)
    architecture = space.sample(rng)
    child = space.mutate(architecture, rng)
    assert space.contains(child)
    assert child != architecture or not list(space.neighbours(architecture))


@given(seeds)
@quick
def test_crossover_stays_in_the_space_and_takes_active_genes_from_a_parent(spaces: Spaces, seed: int) -> None:
    space, rng = spaces(seed % 100), random.Random(seed)
    first, second = space.sample(rng), space.sample(rng)
    child = space.crossover(first, second, rng)
    assert space.contains(child)
    assert child.resolution in (first.resolution, second.resolution)
    assert child.stem in (first.stem, second.stem)
    for mine, *parents in zip(child.stages, first.stages, second.stages, strict=True):
        assert len(mine.blocks) in {len(stage.blocks) for stage in parents}
        assert mine.width in {stage.width for stage in parents}
        assert mine.norm in {stage.norm for stage in parents}
    assert space.crossover(first, first, rng) == first


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_neighbours_are_distinct_members_and_others(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    architecture = space.sample(random.Random(seed))
    found = list(space.neighbours(architecture))
    assert len({other.digest for other in found}) == len(found)
    assert architecture not in found
    assert all(space.contains(other) for other in found)


@given(seeds)
@quick
def test_the_same_seed_draws_the_same(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    one, two = random.Random(seed), random.Random(seed)
    first, second = space.sample(one), space.sample(two)
    assert first == second
    assert space.mutate(first, one) == space.mutate(second, two)


def test_samples_differ() -> None:
    space, rng = nas.load_space("tiny"), random.Random(0)
    assert len({space.sample(rng).digest for _ in range(100)}) == 100


def test_mutation_reaches_every_kind_of_gene() -> None:
    space, rng = nas.load_space("tiny"), random.Random(0)
    architecture = space.sample(rng)
    changed = set()
    for _ in range(300):
        before, after = space.encode(architecture), space.encode(space.mutate(architecture, rng))
        changed |= {name.rsplit(".", 1)[-1] for name in before if before[name] != after[name]}
    assert changed >= {
        "stem",
        "depth",
        "width",
        "norm",
        "downsample",
        "mixer",
        "split",
        "partner",
        "channel_mixer",
        "expansion",
    }


def test_a_space_of_one_member_gives_it_back(small: Callable[..., SearchSpace]) -> None:
    space = small(depths=((1,),), widths=((16,),), mixers=(("depthwise_conv",),))
    only = space.sample(random.Random(0))
    assert space.size() == 1
    assert space.mutate(only, random.Random(0)) == only
    assert list(space.neighbours(only)) == []


@given(seeds)
@quick
def test_corners_have_the_extreme_widths_depths_and_resolutions(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    for corner, extreme in ((space.smallest(random.Random(seed)), min), (space.largest(random.Random(seed)), max)):
        assert corner.resolution == extreme(space.resolutions)
        assert [stage.width for stage in corner.stages] == [extreme(widths) for widths in space.widths]
        assert [len(stage.blocks) for stage in corner.stages] == [extreme(depths) for depths in space.depths]


@given(seeds)
@quick
def test_every_sample_obeys_one_of_the_rules_of_placement(spaces: Spaces, seed: int) -> None:
    space = spaces(seed % 100)
    groups = [[Group.ATTENTION is group for group in stage] for stage in groups_of(space.sample(random.Random(seed)))]
    names = [[block.mixers[0].name for block in stage.blocks] for stage in space.sample(random.Random(seed)).stages]
    flat = [attention for stage in groups for attention in stage]
    obeyed = {"free"}
    if all(len(set(stage)) == 1 for stage in names):
        obeyed.add("per_stage")
    if flat == sorted(flat):
        obeyed.add("conv_then_attention")
    if all(first != second for stage in groups for first, second in itertools.pairwise(stage)):
        obeyed.add("alternate")
    assert obeyed & set(space.placements)


def groups_of(architecture: Architecture) -> list[list[Group]]:
    """The group of every block's first mixer, by stage."""
    return [[operator(Kind.TOKEN_MIXER, block.mixers[0].name).group for block in stage.blocks] for stage in architecture.stages]


def test_an_architecture_that_breaks_all_rules_is_no_member(small: Callable[..., SearchSpace]) -> None:
    fields = {"depths": ((2,),), "placements": ("free",)}
    mixed = next(a for a in members(small(**fields)) if len({block.mixers[0].name for block in a.stages[0].blocks}) == 2)
    strict = small(**{**fields, "placements": ("per_stage",)})
    assert not strict.contains(mixed)
    with pytest.raises(SpaceError, match="obeys none of the placement rules"):
        strict.encode(mixed)


def members(space: SearchSpace) -> set[Architecture]:
    """All members, by decoding every genotype."""
    names = [gene.name for gene in space.genes]
    return {
        space.decode(dict(zip(names, choices, strict=True))) for choices in itertools.product(*(g.choices for g in space.genes))
    }


SMALL_SPACES = {
    "one block": {"depths": ((1,),)},
    "two depths": {},
    "all rules": {"placements": tuple(PLACEMENTS)},
    "per stage": {"placements": ("per_stage",), "depths": ((1, 2),)},
    "alternate": {"placements": ("alternate",), "depths": ((2, 3),), "widths": ((16,),)},
    "kernels and windows": {
        "depths": ((1,),),
        "mixers": (("depthwise_conv", "window_attention", "neighbourhood_attention"),),
        "settings": {"kernel": (3, 7), "dilation": (1, 2), "window": (2, 4), "heads": (2, 4), "expansion": (2,)},
    },
    "partners": {
        "depths": ((1,),),
        "widths": ((8, 16, 24),),
        "splits": (1.0, 0.5, 0.25, 0.75),
        "partners": ("depthwise_conv", "neighbourhood_attention", "pooling"),
        "settings": {
            "kernel": (3, 5), "dilation": (1, 2), "window": (4,), "shift": (False,), "heads": (1, 4), "expansion": (2,),
        },
    },
    "two stages": {
        "resolutions": (16, 32),
        "depths": ((1,), (1, 2)),
        "widths": ((16,), (16,)),
        "mixers": (("depthwise_conv", "window_attention"),) * 2,
        "placements": ("conv_then_attention", "per_stage"),
        "stems": ("patchify", "conv"),
        "norms": ("layer", "batch"),
        "downsamples": ("conv", "average"),
    },
    "residuals that join no branches": {
        "depths": ((1,), (1,)),
        "widths": ((16,), (16,)),
        "mixers": (("depthwise_conv", "window_attention"),) * 2,
        "splits": (1.0, 0.5),
        "partners": ("pooling",),
        "residuals": ("post_norm", "plain"),
        "settings": {"kernel": (3,), "dilation": (1,), "window": (4, 8), "shift": (False,), "heads": (2,), "expansion": (2,)},
    },
    "attention beside attention": {
        "depths": ((1,),),
        "widths": ((32,),),
        "mixers": (("window_attention", "depthwise_conv"),),
        "splits": (1.0, 0.25),
        "partners": ("neighbourhood_attention", "linear_attention"),
        "settings": {
            "kernel": (3, 5), "dilation": (1,), "window": (4, 14), "shift": (False,), "heads": (2, 4), "expansion": (2,),
            "qk_ratio": (1.0, 0.5), "position": ("none", "rope"),
        },
    },
    "tokens": {
        "resolutions": (16, 32),
        "stems": ("tokens", "patchify"),
        "stem_stride": 4,
        "strides": (1, 1),
        "depths": ((1,), (1,), (1,)),
        "widths": ((16,),) * 3,
        "mixers": (("global_attention",),) * 3,
        "downsamples": ("keep", "token_pruning", "semantic_tokens", "class_token"),
        "settings": {"heads": (2,), "keep": (0.5, 0.7), "grid": (2, 3), "expansion": (2,)},
    },
    "tokens halved": {
        "stems": ("tokens", "patchify"),
        "depths": ((1,), (1,)),
        "widths": ((16,), (16, 24)),
        "mixers": (("global_attention", "depthwise_conv"),) * 2,
        "downsamples": ("token_row_reduction", "conv", "residual_attention"),
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", SMALL_SPACES.values(), ids=SMALL_SPACES)
def test_size_equals_the_number_of_members(small: Callable[..., SearchSpace], fields: dict[str, object]) -> None:
    space = small(**fields)
    found = members(space)
    assert space.size() == len(found) == len({architecture.digest for architecture in found})
    for architecture in found:
        assert space.contains(architecture)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_size_of_random_spaces_equals_the_number_of_members(countable: Spaces, seed: int) -> None:
    space = countable(seed)
    assert space.size() == len(members(space))


def without_defaults(op: Operator, chosen: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if value != op.settings[name].default}


@given(st.sampled_from([op for op in operators() if op.settings]), st.integers(1, 8), st.integers(1, 16), st.data())
@settings(max_examples=150, deadline=None)
def test_repair_finds_legal_settings_wherever_there_are_some(
    op: Operator, eighths: int, size: int, data: st.DataObject
) -> None:
    some = {name: st.lists(st.sampled_from(s.choices), min_size=1, max_size=3, unique=True) for name, s in op.settings.items()}
    choices = {name: tuple(data.draw(drawn)) for name, drawn in some.items()}
    wanted = {name: data.draw(st.sampled_from(setting.choices)) for name, setting in op.settings.items()}
    legal = []
    for values in itertools.product(*choices.values()):
        given_values = without_defaults(op, dict(zip(choices, values, strict=True)))
        with contextlib.suppress(SpaceError):
            op.check(given_values, 8 * eighths, size)
            legal.append(tuple(sorted(given_values.items())))
    found = op.repair(wanted, 8 * eighths, size, choices)
    assert found in legal if legal else found is None
    if tuple(sorted(without_defaults(op, wanted).items())) in legal:
        assert dict(found) == without_defaults(op, wanted)


def test_repair_takes_an_earlier_setting_back_where_a_later_one_has_no_choice() -> None:
    conv = operator(Kind.TOKEN_MIXER, "depthwise_conv")
    choices = {"kernel": (3, 7), "dilation": (2,)}
    assert conv.repair({"kernel": 7, "dilation": 2}, 16, 4, choices) == (("dilation", 2), ("kernel", 3))


def test_mutation_and_neighbours_connect_a_whole_space(small: Callable[..., SearchSpace]) -> None:
    space = small(placements=("free", "per_stage"))
    everyone = members(space)
    reached, open_ = set(), [space.smallest()]
    while open_:
        if (architecture := open_.pop()) not in reached:
            reached.add(architecture)
            open_.extend(space.neighbours(architecture))
    assert reached == everyone


operators_with_settings = [op for op in operators(Kind.TOKEN_MIXER) if op.settings]


@given(st.sampled_from(operators_with_settings), st.sampled_from((8, 16, 24, 32, 96)), st.integers(1, 16), st.data())
@settings(max_examples=150, deadline=None)
def test_parts_of_settings_multiply_to_the_legal_ones(
    small: Callable[..., SearchSpace], op: Operator, width: int, size: int, data: st.DataObject
) -> None:
    choices = {}
    for name, setting in op.settings.items():
        most = data.draw(st.integers(1, 3))
        choices[name] = tuple(data.draw(st.lists(st.sampled_from(setting.choices), min_size=1, max_size=most, unique=True)))
    assume(math.prod(map(len, choices.values())) <= 2000)
    try:
        space = small(settings=choices, mixers=(("global_filter",),), widths=((16,),), channel_mixers=("multi_scale_mlp",))
    except SpaceError:
        reject()  # a setting of the same name leaves the channel mixer nothing
    divided = Independence(space).at(op.kind, op.name, width, size)
    legal = op.legal_settings(width, size, choices)
    assert divided.ways == len(legal)
    wanted = {name: data.draw(st.sampled_from(setting.choices)) for name, setting in op.settings.items()}
    if legal:
        repaired = {name: v for part in divided.parts for name, v in zip(part.names, part.repair(wanted), strict=True)}
        assert repaired == op.complete(op.repair(wanted, width, size, choices) or ())


@pytest.mark.parametrize("preset", ["tiny", "mobile", "base", "every"])
def test_presets_encode_what_they_sample(preset: str) -> None:
    space = nas.load_space(preset)
    for seed in range(10):
        architecture = space.sample(random.Random(seed))
        assert space.decode(space.encode(architecture)) == architecture
        assert space.contains(architecture)


def test_strangers_are_no_members(handmade: Architecture, small: Callable[..., SearchSpace]) -> None:
    tiny = nas.load_space("tiny")
    assert not tiny.contains(handmade)
    assert not tiny.contains(small().sample(random.Random(0)))
    assert not small().contains(tiny.sample(random.Random(0)))
    with pytest.raises(SpaceError):
        tiny.encode(handmade)


def test_genotypes_with_wrong_genes_are_refused() -> None:
    space = nas.load_space("tiny")
    genes = space.encode(space.sample(random.Random(0)))
    for wrong, expected in (
        ({**genes, "stem": "pathify"}, "stem='pathify' is none of"),
        ({**genes, "colour": 1}, "genes, got"),
        ({("depth" if name == "s0.depth" else name): value for name, value in genes.items()}, "lacks gene 's0.depth'"),
    ):
        with pytest.raises(SpaceError, match=expected):
            space.decode(wrong)
