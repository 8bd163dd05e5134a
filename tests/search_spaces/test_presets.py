"""Presets, YAML overrides, and the rules that a space must obey."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.errors import FileError, SpaceError, UnknownNameError, UsageError
from nas.search_spaces import independence
from nas.search_spaces.maps import Map
from nas.search_spaces.presets import PRESETS
from nas.search_spaces.registry import Group, Kind, names, operator
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import READ_FIRST, carries_overview, downsamples_of, stem_map, stem_of


@pytest.fixture
def written(tmp_path: Path) -> Callable[[object], Path]:
    """A YAML file with the given content, text or data."""

    def write(content: object) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


class Calls:
    """A function that counts how often it is called."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function, self.number = function, 0

    def __call__(self, *arguments: object) -> object:
        self.number += 1
        return self.function(*arguments)


def refusal(path: Path) -> str:
    with pytest.raises((UsageError, FileError)) as caught:
        nas.load_space(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_their_name_and_mixers_of_every_group(preset: str) -> None:
    space = nas.load_space(preset)
    assert space.name == preset
    groups = {operator(Kind.TOKEN_MIXER, name).group for stage in space.mixers for name in stage}
    assert groups >= {Group.CONVOLUTION, Group.ATTENTION, Group.POOLING, Group.GATING, Group.FREQUENCY}
    assert len(set(space.placements)) > 1


def test_one_preset_holds_every_operator_for_maps_that_are_halved() -> None:
    space = nas.load_space("every")
    assert {name for stage in space.mixers for name in stage} == set(names(Kind.TOKEN_MIXER))
    assert set(space.channel_mixers) == set(names(Kind.CHANNEL_MIXER))
    assert set(space.norms) == set(names(Kind.NORM))
    assert set(space.residuals) == set(names(Kind.RESIDUAL))
    assert set(space.heads) == set(names(Kind.HEAD)) - set(READ_FIRST)
    for name in set(names(Kind.STEM)) - set(space.stems):
        found = [stem_of(space, name, width, 224) for width in space.widths[0]]
        assert None in found or all(stem_map(space, stem, 224) != Map.square(56) for stem in found), name
    for name in set(names(Kind.DOWNSAMPLE)) - set(space.downsamples):
        assert carries_overview(name) or not downsamples_of(space, name, 128, Map.square(56), 2), name


@pytest.mark.parametrize("preset", PRESETS)
def test_every_listed_setting_is_a_choice_of_some_operator(preset: str) -> None:
    space = nas.load_space(preset)
    genes = {gene.name.rsplit(".", 1)[-1]: set(gene.choices) for gene in space.genes}
    for name, choices in space.settings.items():
        assert genes[name] >= set(choices), name


@pytest.mark.parametrize("preset", ["mobile", "base", "every"])
def test_larger_presets_search_residuals_heads_and_attention_modifiers(preset: str) -> None:
    genes = {gene.name.rsplit(".", 1)[-1] for gene in nas.load_space(preset).genes}
    assert genes >= {"residual", "head", "position", "lepe", "qk_ratio", "activation", "dilation"}


def test_counting_the_largest_preset_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It evaluates rules and repairs parts of settings, neither of which is done for each member or each operator's product."""
    rules, repairs = Calls(independence._WatchedPlace), Calls(independence.Part.repair)
    monkeypatch.setattr(independence, "_WatchedPlace", rules)
    monkeypatch.setattr(independence.Part, "repair", lambda part, wanted: repairs(part, wanted))
    assert nas.load_space("every").size() > 10**200
    assert 0 < rules.number < 200_000
    assert 0 < repairs.number < 100_000


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_yaml(preset: str, written: Callable[[object], Path]) -> None:
    space = nas.load_space(preset)
    assert nas.load_space(written(space.to_mapping())) == space
    assert SearchSpace.from_mapping(space.to_mapping()) == space


@given(st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_random_spaces_survive_a_mapping(spaces: Callable[[int], SearchSpace], seed: int) -> None:
    assert SearchSpace.from_mapping(spaces(seed).to_mapping()) == spaces(seed)


def test_yaml_overrides_fields_of_a_preset(written: Callable[[object], Path]) -> None:
    tiny = nas.load_space("tiny")
    space = nas.load_space(
        written(
            {
                "preset": "tiny",
                "mixers": ["pooling", "linear_attention"],
                "widths": [[8], [16, 24], [32]],
                "settings": {"kernel": [3]},
            }
        )
    )
    assert space.name == "mine"
    assert space.mixers == (("pooling", "linear_attention"),) * 3
    assert space.widths == ((8,), (16, 24), (32,))
    assert space.settings == {**tiny.settings, "kernel": (3,)}
    assert (space.depths, space.stems, space.partners) == (tiny.depths, tiny.stems, tiny.partners)


def test_one_list_of_mixers_serves_a_different_number_of_stages(written: Callable[[object], Path]) -> None:
    space = nas.load_space(
        written({"preset": "tiny", "name": "flat", "mixers": ["pooling"], "depths": [[1], [1]], "widths": [[8], [16]]})
    )
    assert (space.name, space.mixers) == ("flat", (("pooling",), ("pooling",)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"width": [[16]]}, "unknown search-space field 'width'. Did you mean 'widths'?"),
        ({"preset": "tony"}, "unknown preset 'tony'. Did you mean 'tiny'?"),
        ({"mixers": ["window_atention"]}, "unknown token mixer 'window_atention'. Did you mean 'window_attention'?"),
        ({"stems": ["pachify"]}, "unknown stem 'pachify'. Did you mean 'patchify'?"),
        ({"norms": ["layers"]}, "unknown norm 'layers'. Did you mean 'layer'?"),
        ({"downsamples": ["overlp"]}, "Did you mean 'overlap'?"),
        ({"channel_mixers": ["mpl"]}, "Did you mean 'mlp'?"),
        ({"partners": ["poolin"]}, "Did you mean 'pooling'?"),
        ({"placements": ["fre"]}, "unknown placement rule 'fre'. Did you mean 'free'?"),
        ({"settings": {"kernal": [3]}}, "unknown operator setting 'kernal'. Did you mean 'kernel'?"),
        ({"widths": [[16, 33], [32], [64]]}, "widths [33] of stage 0 of space 'mine' are not multiples of 8"),
        ({"widths": [[16], [32]]}, "widths of space 'mine' must have one list a stage (3 stages)"),
        ({"widths": 32}, "widths of space 'mine' must have one list a stage (3 stages), got 32"),
        ({"widths": [16, 32, 64]}, "widths[0] of space 'mine' must be a list with at least one choice, got 16"),
        ({"widths": [["16"], [32], [64]]}, "widths[0] of space 'mine' must be of type int, got '16'"),
        ({"widths": [[16, 16], [32], [64]]}, "repeats a choice: [16, 16]"),
        ({"widths": [[0], [32], [64]]}, "widths[0] of space 'mine' must be above zero, got 0"),
        ({"depths": [[], [1], [1]]}, "depths[0] of space 'mine' must be a list with at least one choice"),
        ({"depths": [[1], [1]]}, "must have one list a stage (2 stages)"),
        ({"depths": []}, "(0 stages)"),
        ({"depths": None}, "depths"),
        ({"depths": [[1.5], [1], [1]]}, "depths[0] of space 'mine' must be of type int, got 1.5"),
        ({"depths": [[True], [1], [1]]}, "depths[0] of space 'mine' must be of type int, got True"),
        ({"mixers": [["pooling"], ["pooling"]]}, "mixers of space 'mine' must have one list a stage (3 stages)"),
        ({"mixers": [["pooling"], [], ["pooling"]]}, "mixers[1] of space 'mine' must be a list with at least one choice"),
        ({"mixers": {"pooling": 1}}, "mixers"),
        ({"stems": "patchify"}, "stems of space 'mine' must be a list with at least one choice, got 'patchify'"),
        ({"stem_stride": 0}, "stem_stride of space 'mine' must be a whole number above zero, got 0"),
        ({"stem_stride": "2"}, "stem_stride of space 'mine' must be a whole number above zero, got '2'"),
        ({"resolutions": [30]}, "resolutions [30] of space 'mine' are not multiples of the total stride 8"),
        ({"resolutions": []}, "resolutions of space 'mine' must be a list with at least one choice"),
        ({"splits": [0.5]}, "must lie in (0, 1] and hold 1.0"),
        ({"splits": [1.0, 1.5]}, "must lie in (0, 1] and hold 1.0"),
        ({"splits": [1.0, 0.5], "partners": []}, "partners of space 'mine' must be a list with at least one choice"),
        ({"settings": {"kernel": 3}}, "settings.kernel must be a list of choices, got 3; write [3]"),
        ({"settings": [3]}, "settings must map names to lists of choices, got [3]"),
        ({"settings": {"kernel": []}}, "settings.kernel of space 'mine' must be distinct choices"),
        ({"settings": {"kernel": ["3"]}}, "settings.kernel of space 'mine' must be of type int, got '3'"),
        ({"settings": {"kernel": [4]}}, "has no legal setting in stage 0"),
        ({"settings": {"kernel": [4]}}, "none of kernel [4] is legal at 32 channels on a 16x16 map: a kernel is odd and"),
        ({"settings": {"heads": [5]}}, "none of heads [5] is legal at 32 channels on a 16x16 map: heads divide the channels"),
        ({"settings": {"heads": [5]}}, "it may be one of [1, 2, 4, 8]; leave it out there or widen its settings"),
        ({"settings": {"expansion": [9]}}, "none of expansion [9] is legal at 16 channels on a 16x16 map: the hidden layer"),
        ({"strides": [2]}, "strides of space 'mine' must have a 1 or a 2 for each of the 2 stages behind the first, got [2]"),
        ({"strides": [2, 4]}, "must have a 1 or a 2 for each of the 2 stages behind the first, got [2, 4]"),
        ({"strides": [True, 2]}, "must have a 1 or a 2 for each"),
        ({"strides": 2}, "must have a 1 or a 2 for each of the 2 stages behind the first, got 2"),
        ({"strides": [2, 1]}, "no downsample of space 'mine' gives stage 2 64 channels with stride 1 from a 8x8 map"),
        ({"downsamples": ["conv", "keep"]}, "downsample 'keep' of space 'mine' cannot give 32 channels from a 16x16 map"),
        ({"stems": ["tokens"]}, "no downsample of space 'mine' gives stage 1 32 channels with stride 2 from a 1x257 map"),
        ({"stems": ["two_branch_trunk"]}, "stem 'two_branch_trunk' of space 'mine' cannot give 16 channels from a 32x32 image"),
        ({"mixers": ["pooling"], "placements": ["alternate"]}, "placement rule 'alternate' leaves no mixer for stage 0"),
        ({"name": 3}, "the name of a space must be text, got 3"),
    ],
)
def test_broken_overrides_are_refused_with_field_value_and_remedy(
    written: Callable[[object], Path], fields: dict[str, object], expected: str
) -> None:
    assert expected in refusal(written({"preset": "tiny", **fields}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must be a mapping of fields, e.g. 'preset: tiny'"),
        ("[1, 2]", "must be a mapping of fields"),
        ("preset: [", "is not YAML"),
        ("resolutions: [32]", "a search space needs ['depths'"),
        ("preset: tiny\n1: 2\n", "unknown search-space field 1"),
        ("preset: tiny\nname: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_files_that_are_no_space_are_refused(written: Callable[[object], Path], text: str, expected: str) -> None:
    assert expected in refusal(written(text))


def test_unknown_names_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown space 'tyni'\. Did you mean 'tiny'"):
        nas.load_space("tyni")
    assert "absent.yaml" in refusal(tmp_path / "absent.yaml")


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.yaml"
    path.write_bytes(bytes(range(256)))
    assert "photo.yaml" in refusal(path)


def test_spaces_are_checked_however_they_are_made(small: Callable[..., SearchSpace]) -> None:
    with pytest.raises(SpaceError, match="not multiples of 8"):
        small(widths=((20,),))
