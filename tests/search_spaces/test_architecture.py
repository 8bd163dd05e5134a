"""The architecture as a value: canonical JSON, digest, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.errors import SpaceError, UnknownNameError, UsageError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.space import SearchSpace

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def sampled() -> Architecture:
    return nas.load_space("tiny").sample(random.Random(3))


def fails(text: str) -> str:
    """The message with which JSON is refused, which must be one line."""
    with pytest.raises(UsageError) as caught:
        Architecture.from_json(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(text: str) -> Architecture | None:
    """The architecture of a JSON, or None where it is refused, which must be in one line."""
    try:
        return Architecture.from_json(text)
    except UsageError as error:
        message = str(error)
    assert "\n" not in message
    return None


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_json_gives_back_the_same_value(spaces: Callable[[int], SearchSpace], seed: int) -> None:
    architecture = spaces(seed % 200).sample(random.Random(seed))
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert (again.digest, again.to_json()) == (architecture.digest, architecture.to_json())


def test_json_gives_back_an_architecture_that_no_genotype_expresses(handmade: Architecture) -> None:
    assert Architecture.from_json(handmade.to_json()) == handmade


def test_json_is_canonical_whatever_the_order_of_keys_and_the_spacing(sampled: Architecture) -> None:
    loose = json.dumps(json.loads(sampled.to_json()), indent=3)
    backwards = json.dumps(reverse_keys(json.loads(sampled.to_json())))
    assert loose != sampled.to_json() != backwards
    assert Architecture.from_json(loose).to_json() == Architecture.from_json(backwards).to_json() == sampled.to_json()


def reverse_keys(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: reverse_keys(data[key]) for key in reversed(list(data))}
    return [reverse_keys(item) for item in data] if isinstance(data, list) else data


def test_digest_is_the_same_in_another_process_with_another_hash_seed(sampled: Architecture) -> None:
    code = "import sys; from nas import Architecture; print(Architecture.from_json(sys.stdin.read()).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run(
        [sys.executable, "-c", code], input=sampled.to_json(), env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == sampled.digest


def test_digest_is_the_one_of_earlier_versions() -> None:
    block = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), Op.of("mlp", expansion=2))
    architecture = Architecture(32, Op.of("patchify", stride=2), (Stage(16, "layer", None, (block,)),))
    assert architecture.digest == "0264721c262e8756"


@given(seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_digest_changes_with_every_number_and_name(
    spaces: Callable[[int], SearchSpace], seed: int, data: st.DataObject
) -> None:
    architecture = spaces(seed % 50).sample(random.Random(seed))
    other = spaces(seed % 50).sample(random.Random(seed + 1))
    assert (architecture == other) == (architecture.digest == other.digest)
    text = architecture.to_json()
    digits = [at for at, letter in enumerate(text) if letter in "123456789"]
    at = data.draw(st.sampled_from(digits))
    altered = text[:at] + str(int(text[at]) % 9 + 1) + text[at + 1 :]
    found = read(altered)
    assert found is None or found.digest != architecture.digest


def test_order_of_settings_does_not_matter() -> None:
    assert Op("depthwise_conv", (("kernel", 3), ("dilation", 1))) == Op.of("depthwise_conv", dilation=1, kernel=3)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_json_is_refused(sampled: Architecture, data: st.DataObject) -> None:
    text = sampled.to_json()
    assert "not an architecture" in fails(text[: data.draw(st.integers(0, len(text) - 1))])


def altered(sampled: Architecture, path: tuple[str | int, ...], value: Any) -> str:
    """The JSON with one entry replaced, or removed where the value is `...`."""
    data = json.loads(sampled.to_json())
    parent = data
    for step in path[:-1]:
        parent = parent[step]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return json.dumps(data)


BLOCK = ("stages", 1, "blocks", 0)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("format",), "onnx", 'no "format": "nas-architecture"'),
        (("format",), ..., 'no "format": "nas-architecture"'),
        (("version",), 2, "version 2 is not 1: update nas"),
        (("resolution",), ..., "lacks ['resolution']"),
        (("colour",), 1, "has ['colour'] too much"),
        (("resolution",), "32", "resolution must be a whole number above zero, got '32'"),
        (("resolution",), 0, "resolution must be a whole number above zero, got 0"),
        (("resolution",), True, "resolution must be a whole number above zero, got True"),
        (("stem",), None, "stem must be an object, got None"),
        (("stem", "settings"), [], "stem must be an operator with settings"),
        (("stages",), {}, "stages must be a list"),
        (("stages",), [], "at least one stage"),
        (("stages", 1), 7, "stages[1] must be an object, got 7"),
        (("stages", 1, "width"), 33.5, "stages[1].width must be a whole number above zero, got 33.5"),
        (("stages", 1, "norm"), 3, "stages[1].norm must be a name, got 3"),
        (("stages", 1, "norm"), "layr", "unknown norm 'layr'. Did you mean 'layer'?"),
        (("stages", 1, "downsample"), None, "every stage but the first begins with a downsample"),
        (("stages", 0, "downsample"), {"operator": "conv", "settings": {}}, "the first has none"),
        (("stages", 1, "blocks"), [], "a stage has at least one block"),
        ((*BLOCK, "split"), "half", "stages[1].blocks[0].split must be a number, got 'half'"),
        (
            (*BLOCK, "mixers"),
            [{"operator": "pooling", "settings": {"pool": 3}}] * 3,
            "one token mixer or two in parallel, got 3",
        ),
        ((*BLOCK, "mixers", 0, "operator"), "depthwise_con", "Did you mean 'depthwise_conv'?"),
        ((*BLOCK, "mixers", 0, "settings"), {"size": 3}, "takes the settings"),
        ((*BLOCK, "channel_mixer", "settings", "expansion"), [4], "must be a number, a name or a truth value, got [4]"),
        ((*BLOCK, "channel_mixer", "settings", "expansion"), "4", "is no int"),
        ((*BLOCK, "width"), 0, "stages[1].blocks[0].width must be a whole number above zero, got 0"),
    ],
)
def test_altered_json_is_refused_with_the_place_and_the_value(
    sampled: Architecture, path: tuple[str | int, ...], value: Any, expected: str
) -> None:
    assert expected in fails(altered(sampled, path, value))


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '"text"', "{}", "\x00", "NaN", "[" * 100_000])
def test_foreign_json_is_refused(text: str) -> None:
    assert "not an architecture" in fails(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5), st.data())
@settings(max_examples=80, deadline=None)
def test_any_value_in_any_place_is_accepted_or_refused_in_one_line(
    sampled: Architecture, value: Any, data: st.DataObject
) -> None:
    root = parent = json.loads(sampled.to_json())
    while True:
        step = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        child = parent[step]
        if not isinstance(child, (dict, list)) or not child or data.draw(st.booleans()):
            break
        parent = child
    parent[step] = value
    found = read(json.dumps(root))
    assert found is None or read(found.to_json()) == found


def test_architectures_cannot_be_changed(sampled: Architecture) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampled.resolution = 64  # type: ignore[misc]


@pytest.mark.parametrize(("mixers", "split"), [(1, 0.5), (2, 1.0), (2, 0.0), (3, 0.5), (0, 1.0)])
def test_a_block_has_one_mixer_or_two_with_a_split(mixers: int, split: float) -> None:
    with pytest.raises(SpaceError):
        Block((Op.of("global_filter"),) * mixers, None, split)


def test_unknown_operator_names_the_nearest() -> None:
    block = Block((Op.of("global_filtr"),), None)
    with pytest.raises(UnknownNameError, match="Did you mean 'global_filter'"):
        Architecture(32, Op.of("patchify", stride=2), (Stage(16, "layer", None, (block,)),)).check()


def test_depth_counts_the_blocks_of_all_stages(handmade: Architecture) -> None:
    assert handmade.depth == 5


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("layer", Op("layer")),
        ("layer(eps=1e-05)", Op.of("layer", eps=1e-5)),
        ("layer( bias = False , eps=0.00001 )", Op.of("layer", eps=1e-5, bias=False)),
        ("x(a=3, b=word)", Op.of("x", a=3, b="word")),
    ],
)
def test_operators_are_read_from_text(text: str, op: Op) -> None:
    assert Op.parse(text) == op
    assert Op.parse(str(op)) == op


@pytest.mark.parametrize("text", ["", "(", "layer(", "layer(eps)", "layer(eps=)", "(eps=1)"])
def test_other_texts_are_no_operators(text: str) -> None:
    with pytest.raises(SpaceError, match="not an operator"):
        Op.parse(text)


def test_what_a_network_says_beside_its_defaults_comes_back_from_json(handmade: Architecture) -> None:
    first, last = handmade.stages
    conv = first.blocks[0].mixers
    blocks = (
        Block(conv, None, residual=Op("plain"), norm="none"),
        Block((), Op.of("mlp", expansion=2)),
        Block((), None, norm="rms"),
    )
    stages = (
        dataclasses.replace(first, blocks=blocks, residual=Op("residual_scale"), norm="layer(eps=1e-05)"),
        dataclasses.replace(last, downsample_norm="none"),
    )
    found = Architecture(32, handmade.stem, stages, Op.of("mlp_head", expansion=2), "none", "layer(bias=False)")
    found.check()
    assert Architecture.from_json(found.to_json()) == found
    assert found.digest != dataclasses.replace(found, head_norm="layer").digest


def test_what_equals_a_default_is_left_out(handmade: Architecture) -> None:
    first, last = handmade.stages
    block = dataclasses.replace(first.blocks[0], residual=Op("layer_scale"), norm=first.norm)
    stages = (
        dataclasses.replace(first, blocks=(block, *first.blocks[1:]), residual=Op("layer_scale")),
        dataclasses.replace(last, downsample_norm=last.norm),
    )
    again = Architecture(32, handmade.stem, stages, Op("average_pool"), first.norm, last.norm)
    assert again == handmade
    assert again.digest == handmade.digest


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("head",), 3, "head must be an object, got 3"),
        (("head",), {"operator": "average_poll", "settings": {}}, "Did you mean 'average_pool'?"),
        (("head_norm",), 3, "head_norm must be a name, got 3"),
        (("stages", 1, "residual"), {"operator": "layer_scal", "settings": {}}, "Did you mean 'layer_scale'?"),
        (("stages", 1, "downsample_norm"), "layr", "unknown norm 'layr'"),
        (("stages", 1, "norm"), "layer(eps=7.0)", "eps=7.0 of 'layer' is illegal"),
        (("stages", 1, "norm"), "layer(eps=1e-06)", "is its default: leave it out"),
        (("stages", 1, "norm"), "layer(eps", "not an operator"),
        (("overview_at",), 1, "overview_at=1 must leave stages"),
    ],
)
def test_later_fields_are_refused_with_the_place_and_the_value(
    sampled: Architecture, path: tuple[str | int, ...], value: Any, expected: str
) -> None:
    assert expected in fails(altered(sampled, path, value))
