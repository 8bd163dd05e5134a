"""Spaces whose stages keep the map or work on rows of tokens: isotropic networks, class tokens, token reduction."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.maps import Map
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import downsample_of
from nas.supernet.supernet import Supernet

ISOTROPIC = """
resolutions: [64, 96]
stems: [tokens]
stem_stride: 16
strides: [1, 1]
downsamples: [keep, token_pruning]
norms: [layer]
depths: [[1, 2], [1, 2], [1]]
widths: [[32, 48], [32, 48], [48]]
mixers: [global_attention, head_token_attention]
heads: [class_token, average_pool]
settings: {heads: [2, 4], keep: [0.5, 0.7, 0.9]}
"""


@pytest.fixture
def isotropic(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "isotropic.yaml"
    path.write_text(ISOTROPIC)
    return nas.load_space(path)


def logits(architecture: Architecture) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return nas.build(architecture, 10, 3).eval()(torch.zeros(1, 3, architecture.resolution, architecture.resolution))


def test_a_space_of_tokens_is_searched_with_its_keep_rates(isotropic: SearchSpace) -> None:
    genes = {gene.name: gene.choices for gene in isotropic.genes}
    assert genes["s1.downsample"] == ("keep", "token_pruning")
    assert genes["s1.downsample.keep"] == (0.5, 0.7, 0.9)
    rng, found = random.Random(0), set()
    for _ in range(40):
        architecture = isotropic.sample(rng)
        assert isotropic.decode(isotropic.encode(architecture)) == architecture
        child = isotropic.mutate(architecture, rng)
        assert isotropic.contains(child)
        assert isotropic.contains(isotropic.crossover(architecture, child, rng))
        assert Architecture.from_json(architecture.to_json()) == architecture
        found |= {str(stage.downsample) for stage in architecture.stages}
    assert {"keep", "token_pruning(heads=2, keep=0.5)", "token_pruning(heads=4, keep=0.9)"} <= found
    assert logits(architecture).shape == (1, 10)


def test_maps_follow_the_keep_rates(isotropic: SearchSpace) -> None:
    first, second, _ = isotropic.maps[64]
    assert first == (Map(1, 17, True),)
    assert second == (Map(1, 10, True), Map(1, 14, True), Map(1, 17, True))


def test_the_supernet_of_a_space_of_tokens_is_exact(isotropic: SearchSpace) -> None:
    supernet, rng = Supernet(isotropic, 10, 1), random.Random(1)
    for _ in range(6):
        architecture = isotropic.sample(rng)
        image = torch.randn(2, 1, architecture.resolution, architecture.resolution)
        for mode in (True, False):
            supernet.train(mode)
            with torch.no_grad():
                assert torch.equal(supernet(image, architecture), supernet.extract(architecture)(image))


def test_class_tokens_are_known_where_they_stand(small: Callable[..., SearchSpace]) -> None:
    fields = {"strides": (1,), "depths": ((1,),) * 2, "widths": ((16,),) * 2, "mixers": (("global_attention",),) * 2}
    space = small(stems=("tokens", "patchify"), downsamples=("token_pruning",), **fields)
    settings = {}
    for stem in space.stems:
        genes = {gene.name: gene.choices[0] for gene in space.genes} | {"stem": stem}
        settings[stem] = dict(space.decode(genes).stages[1].downsample.settings)
    assert "class_token" not in settings["tokens"]
    assert settings["patchify"]["class_token"] is False


def test_a_downsample_that_does_not_fit_gives_way(small: Callable[..., SearchSpace]) -> None:
    fields = {"strides": (2, 1), "depths": ((1,),) * 3, "widths": ((16,),) * 3, "mixers": (("global_attention",),) * 3}
    space = small(downsamples=("conv", "keep"), **fields)
    for seed in range(8):
        stages = space.sample(random.Random(seed)).stages
        assert [str(stage.downsample) for stage in stages] == ["None", "conv", "keep"]
    assert space.maps[16] == ((Map.square(8),), (Map.square(4),), (Map.square(4),))


@pytest.mark.parametrize(
    ("before", "shape", "stride", "after"),
    [
        (Map.square(8), (4, 4), 2, Map.square(4)),
        (Map.square(8), (8, 8), 1, Map.square(8)),
        (Map.square(8), (4, 4), 1, Map.square(4)),
        (Map.square(8), (3, 3), 2, None),
        (Map.square(7), (4, 4), 2, None),
        (Map.square(8), (1, 65), 1, Map(1, 65, True)),
        (Map.square(8), (1, 33), 1, Map(1, 33)),
        (Map(1, 65, True), (1, 17), 2, Map(1, 17, True)),
        (Map(1, 65, True), (1, 17), 1, Map(1, 17, True)),
        (Map(1, 65, True), (1, 66), 1, None),
        (Map(1, 65, True), (1, 34), 1, Map(1, 34, True)),
        (Map(1, 60, True), (1, 17), 2, None),
        (Map(1, 65, True), (0, 32), 2, None),
        (Map(1, 65, True), (4, 4), 1, Map.square(4)),
    ],
)
def test_a_stage_takes_the_maps_of_its_stride(before: Map, shape: tuple[int, int], stride: int, after: Map | None) -> None:
    assert before.become(*shape, stride) == after


def test_architectures_of_other_maps_are_strangers(isotropic: SearchSpace, handmade: Architecture) -> None:
    assert not isotropic.contains(handmade)
    tiny = nas.load_space("tiny").sample(random.Random(0))
    with pytest.raises(SpaceError, match="other maps"):
        isotropic.encode(tiny)


ROWS = {"resolutions": (112,), "stems": ("tokens",), "stem_stride": 16, "strides": (1,), "depths": ((1,),) * 2}
ROWS |= {"widths": ((32,),) * 2, "mixers": (("global_attention",),) * 2}


def test_a_share_of_tokens_that_looks_like_a_halved_map_is_kept(small: Callable[..., SearchSpace]) -> None:
    space = small(**ROWS, downsamples=("token_pruning",), settings={"heads": (2,), "keep": (0.3,)})
    assert space.maps[112] == ((Map(1, 50, True),), (Map(1, 17, True),))
    first = {gene.name: gene.choices[0] for gene in space.genes}
    assert str(space.decode(first).stages[1].downsample) == "token_pruning(heads=2, keep=0.3)"


@pytest.mark.parametrize(("side", "name"), [(16, "conv"), (14, "conv"), (14, "depthwise"), (14, "halo_bottleneck")])
def test_what_halves_maps_has_no_place_in_a_stage_of_stride_1(small: Callable[..., SearchSpace], side: int, name: str) -> None:
    fields = {"resolutions": (side,), "strides": (1,), "depths": ((1,),) * 2, "widths": ((16,),) * 2}
    with pytest.raises(SpaceError, match="no downsample of space 'small' gives stage 1 16 channels with stride 1"):
        small(**fields, mixers=(("pooling",),) * 2, downsamples=(name,), settings={})


def test_a_square_half_as_wide_is_a_choice_where_the_downsample_asks_for_it(small: Callable[..., SearchSpace]) -> None:
    fields = {"strides": (1,), "depths": ((1,),) * 2, "widths": ((16,),) * 2, "mixers": (("pooling",),) * 2}
    space = small(**fields, downsamples=("semantic_tokens",), settings={"heads": (2,), "grid": (4, 2)})
    assert space.maps_of(1) == (Map.square(2), Map.square(4))


def test_a_downsample_that_does_not_fit_takes_the_nearest_settings_that_do(small: Callable[..., SearchSpace]) -> None:
    fields = {"strides": (1,), "depths": ((1,),) * 2, "widths": ((16,),) * 2, "mixers": (("pooling",),) * 2}
    space = small(**fields, downsamples=("semantic_tokens",), settings={"heads": (2, 4), "grid": (2, 4, 7, 16)})
    wanted = {"heads": 4, "grid": 16}
    found = downsample_of(space, "semantic_tokens", 16, Map.square(8), 1, wanted)
    assert found is not None
    assert {"heads": 4, "grid": 7}.items() <= dict(found.settings).items()


@pytest.mark.parametrize("head", ["class_token", "two_branch_classifiers"])
def test_heads_that_read_a_class_token_need_one_in_every_last_map(small: Callable[..., SearchSpace], head: str) -> None:
    keep = {"downsamples": ("keep",), "heads": ("average_pool", head)}
    assert head in small(**ROWS, **keep).heads
    refused = f"head '{head}' of space 'small' reads a class token, and the last stage may work on a 7x7 map without one: list"
    with pytest.raises(SpaceError, match=refused):
        small(**{**ROWS, "stems": ("tokens", "patchify")}, **keep)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_every_sample_of_a_random_space_builds_and_runs(spaces: Callable[[int], SearchSpace], seed: int) -> None:
    architecture = spaces(seed % 100).sample(random.Random(seed))
    assert logits(architecture).shape == (1, 10)
