"""What is refused when a space is made, or an architecture written by hand: the rule, the value, the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import nas
from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.space import SearchSpace

CARRIED = {"downsamples": ["carried_overlap", "conv"], "widths": [[16], [24], [136]]}
JOINED = {"strides": [1, 2], "downsamples": ["conv", "join_overview"], "resolutions": [32]}


def of_tiny(tmp_path: Path, **fields: Any) -> SearchSpace:
    """The space of a file that overrides fields of `tiny`."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"preset": "tiny", **fields}))
    return nas.load_space(path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (CARRIED, "downsample 'carried_overlap' of space 'mine' needs an overview, which no genotype expresses: leave it out"),
        (JOINED, "downsample 'join_overview' of space 'mine' needs an overview, which no genotype expresses: leave it out"),
        ({"settings": {"kernel": [[3, 5]]}}, "settings.kernel of space 'mine' must be of type int, got [3, 5]"),
        ({"settings": {"kernel": [{"a": 1}]}}, "settings.kernel of space 'mine' must be of type int, got {'a': 1}"),
        ({"splits": [1.0], "partners": "pooling"}, "partners of space 'mine' must be a list with at least one choice"),
        ({"splits": [1.0], "partners": 5}, "partners of space 'mine' must be a list with at least one choice, got 5"),
        ({"splits": [1.0], "partners": [5]}, "partners of space 'mine' must be of type str, got 5"),
        ({"strides": 0}, "strides of space 'mine' must have a 1 or a 2 for each of the 2 stages behind the first, got 0"),
        ({"strides": False}, "behind the first, got False"),
        ({"strides": None}, "behind the first, got None"),
        ({"heads": ["class_token"]}, "head 'class_token' of space 'mine' reads a class token"),
        ({"settings": {"top_k": [4]}}, "settings.top_k of space 'mine' is searched by none of its operators: list an operator"),
        ({"settings": {"top_k": [4]}}, "that takes it (routed_attention"),
        ({"settings": {"value_ratio": [2]}}, "or leave it out (the nearest that is searched: 'qk_ratio')"),
        ({"settings": {"layers": [2]}}, "settings.layers of space 'mine' is searched by none of its operators"),
        ({"settings": {"init": [0.5]}}, "settings.init of space 'mine' is searched by none of its operators"),
        ({"settings": {"stride": [4]}}, "settings.stride of space 'mine' is searched by none of its operators"),
        ({"resolutions": [30]}, "total stride 8: list multiples of it, or divide less by stem_stride and strides"),
        ({"strides": [2, 1]}, "(downsamples: conv, average): add one that does, or change the widths or strides"),
        ({"downsamples": ["conv", "keep"]}, "that its strides ask for: leave it out, or list another in its place"),
    ],
)
def test_broken_fields_are_refused_with_value_and_remedy(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpaceError) as caught:
        of_tiny(tmp_path, **fields)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_taken_where_an_operator_of_the_space_searches_them(tmp_path: Path) -> None:
    assert of_tiny(tmp_path, heads=["class_attention"], settings={"layers": [2]}).settings["layers"] == (2,)
    position = of_tiny(tmp_path, settings={"position": ["none", "table"]})
    assert {gene.name for gene in position.genes} > {"s1b0.position"}


def test_settings_that_a_preset_lists_stay_where_its_mixers_are_overridden(tmp_path: Path) -> None:
    space = of_tiny(tmp_path, mixers=["pooling"], splits=[1.0], partners=[])
    assert space.settings == nas.load_space("tiny").settings
    assert SearchSpace.from_mapping(space.to_mapping()) == space


def test_partners_may_be_left_out(small: Callable[..., SearchSpace]) -> None:
    assert small(partners=(), splits=(1.0,)).partners == ()


def halved(downsample: Op, first: int, second: int) -> Architecture:
    """Two stages of those widths with a downsample between them."""
    block = Block((Op("global_filter"),), Op.of("mlp", expansion=2))
    stages = (Stage(first, "layer", None, (block,)), Stage(second, "layer", downsample, (block,)))
    return Architecture(32, Op.of("patchify", stride=2), stages)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (halved(Op.of("carried_overlap", carried=16), 16, 48), "carries 16 channels, but only 16 come in: carry fewer"),
        (halved(Op("join_overview"), 48, 16), "keeps all 48 channels that come in, but the stage has 16: widen the stage"),
    ],
)
def test_downsamples_that_leave_no_channels_are_refused_in_graphs(architecture: Architecture, expected: str) -> None:
    with pytest.raises(SpaceError, match=expected):
        architecture.check()


def test_downsamples_of_an_overview_stand_where_channels_suffice() -> None:
    halved(Op.of("carried_overlap", carried=8), 16, 48).check()
    halved(Op("join_overview"), 16, 16).check()
