"""What each operator declares: its text, its settings, their rules, and the parameters it shares."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.errors import SpaceError
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.registry import Group, Kind, Operator, Place, Value, operator, operators

EVERY = list(operators())
SETTABLE = [op for op in EVERY if op.settings]
MIXERS = [op for op in EVERY if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]
PLACES = ((8, 1), (8, 2), (16, 3), (24, 5), (32, 7), (64, 14))
TRIALS: tuple[Value, ...] = (-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 1000, -1.0, 1e9, "no such name", False, True)
widths = st.integers(1, 64).map(lambda n: 8 * n)
sizes = st.integers(1, 64)


def name_of(op: Operator) -> str:
    return f"{op.kind}-{op.name}"


def combinations(op: Operator) -> list[dict[str, Value]]:
    """All products of the usual choices; settings at their defaults are left out."""
    every = itertools.product(*(setting.usual for setting in op.settings.values()))
    optional = {name for name, setting in op.settings.items() if setting.default is not None}
    return [{k: v for k, v in zip(op.settings, values, strict=True) if k not in optional} for values in every]


def legal(op: Operator, chosen: dict[str, Value], width: int, size: int) -> bool:
    try:
        op.check(chosen, width, size)
    except SpaceError:
        return False
    return True


def construct(op: Operator, width: int, size: int, chosen: Any) -> nn.Module:
    match op.kind:
        case Kind.NORM:
            arguments: tuple[Any, ...] = (width,)
        case Kind.STEM | Kind.DOWNSAMPLE:
            arguments = (3, width, size) if op.sized else (3, width)
        case Kind.RESIDUAL:
            arguments = (nn.LayerNorm(width), nn.Linear(width, width), width)
        case Kind.HEAD:
            arguments = (nn.LayerNorm, width, size, 10)
        case _:
            arguments = (width, size)
    return op.module(*arguments, **dict(chosen))


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_an_operator_says_what_it_is_where_it_is_from_and_how_to_check_it(op: Operator) -> None:
    assert len(op.summary) > 10, "the docstring's first line is the summary"
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", op.cite)
    module = importlib.import_module(op.module.__module__)
    assert module.__doc__
    assert next(iter(inspect.signature(module.reference).parameters)) == "module"
    assert module.reference.__doc__
    assert inspect.getsource(op.module).count("persistent=False") == inspect.getsource(op.module).count("register_buffer(")


@pytest.mark.parametrize("op", MIXERS, ids=name_of)
def test_a_mixer_is_called_with_width_size_and_its_settings(op: Operator) -> None:
    parameters = inspect.signature(op.module.__init__).parameters
    named = [name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    others = [name for name in op.settings if name not in named]
    assert list(parameters)[:3] == ["self", "width", "size"]
    assert named == [name for name in op.settings if name in named]
    assert not others or set(others) <= set(Modifiers.__annotations__), "the rest are the modifiers of attention"
    for name in named:
        default = parameters[name].default
        assert (op.settings[name].default is None) == (default is inspect.Parameter.empty)
        assert op.settings[name].default is None or op.settings[name].default == default


def test_token_mixers_belong_to_a_group_and_other_operators_to_none() -> None:
    for op in EVERY:
        assert (op.group is not Group.NONE) == (op.kind == Kind.TOKEN_MIXER), op.name


@pytest.mark.parametrize("op", SETTABLE, ids=name_of)
def test_choices_are_distinct_and_of_one_type(op: Operator) -> None:
    for name, setting in op.settings.items():
        assert len(set(setting.choices)) == len(setting.choices) >= 1, name
        assert len({type(choice) for choice in setting.choices}) == 1, name


@pytest.mark.parametrize("op", SETTABLE, ids=name_of)
def test_illegal_values_are_refused_with_the_rule_and_the_value(op: Operator) -> None:
    refused = set()
    for width, size in PLACES:
        for base in map(dict, op.legal_settings(width, size)):
            before: dict[str, Value] = {}
            for name, value_of_base in op.complete(tuple(base.items())).items():
                setting = op.settings[name]
                for value in TRIALS:
                    if type(value) is type(value_of_base) and not setting.rule(value, Place(width, size, before)):
                        with pytest.raises(SpaceError, match=re.escape(f"{name}={value!r}")) as caught:
                            op.check({**base, name: value}, width, size)
                        assert setting.because in str(caught.value)
                        refused.add(name)
                before = {**before, name: value_of_base}
    free = {name for name, setting in op.settings.items() if isinstance(setting.choices[0], bool)}
    assert refused | free == set(op.settings), "each setting but a switch has a rule that some value breaks"


@pytest.mark.parametrize("op", SETTABLE, ids=name_of)
def test_missing_unknown_and_mistyped_settings_are_refused(op: Operator) -> None:
    base = dict(op.legal_settings(64, 14)[0])
    name = next(iter(op.settings))
    mistyped = [{**base, name: value} for value in ("no such name", 2.5, None)]
    for wrong in (*([{}] if base else []), {**base, "colour": 1}, *mistyped):
        with pytest.raises(SpaceError, match=op.name):
            op.check(wrong, 64, 14)


@pytest.mark.parametrize(
    ("name", "chosen", "size"),
    [
        ("depthwise_conv", {"kernel": 4, "dilation": 1}, 8),
        ("depthwise_conv", {"kernel": 7, "dilation": 3}, 8),
        ("window_attention", {"heads": 2, "window": 9, "shift": False}, 8),
        ("window_attention", {"heads": 2, "window": 8, "shift": True}, 8),
        ("global_attention", {"heads": 3}, 8),
        ("global_attention", {"heads": 8}, 8),
        ("neighbourhood_attention", {"heads": 1, "kernel": 3, "dilation": 3}, 8),
        ("neighbourhood_attention", {"heads": 1, "kernel": 9, "dilation": 1}, 8),
        ("neighbourhood_attention", {"heads": 1, "kernel": 4, "dilation": 1}, 8),
        ("spatial_reduction_attention", {"heads": 1, "reduction": 1}, 8),
        ("spatial_reduction_attention", {"heads": 1, "reduction": 8}, 7),
        ("linear_attention", {"heads": 1, "kernel": 1}, 8),
        ("gated_conv", {"order": 6, "kernel": 3}, 8),
        ("gated_conv", {"order": 1, "kernel": 3}, 8),
        ("mbconv", {"kernel": 3, "ratio": 0}, 8),
        ("pooling", {"pool": 3}, 1),
    ],
)
def test_known_illegal_settings_are_refused(name: str, chosen: dict[str, Value], size: int) -> None:
    op = operator(Kind.TOKEN_MIXER, name)
    with pytest.raises(SpaceError, match="illegal for 16 channels"):
        op.check(chosen, 16, size)


@settings(max_examples=25, deadline=None)
@given(width=widths, size=sizes, data=st.data())
@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_repair_gives_legal_settings_wherever_there_are_any(op: Operator, width: int, size: int, data: st.DataObject) -> None:
    wanted = {name: data.draw(st.sampled_from((*s.choices, *TRIALS))) for name, s in op.settings.items()}
    repaired = op.repair(wanted, width, size)
    possible = [chosen for chosen in combinations(op) if legal(op, chosen, width, size)]
    assert (repaired is None) == (not possible)
    if repaired is not None:
        assert dict(repaired) in possible
    for chosen in possible:
        assert op.repair(chosen, width, size) == tuple(sorted(chosen.items()))


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_every_operator_works_on_ordinary_maps(op: Operator) -> None:
    assert all(op.legal_settings(width, size) for width, size in ((16, 4), (64, 56), (96, 7)))


def test_parameters_of_a_family_nest() -> None:
    """A supernet keeps one tensor for each name of a family and gives each choice a slice: same rank, and names that agree."""
    for family in {(op.kind, op.family) for op in MIXERS}:
        ranks: dict[str, int] = {}
        for op in (op for op in MIXERS if (op.kind, op.family) == family):
            largest: set[str] = set()
            found = []
            for width, size in ((16, 4), (32, 9)):
                for chosen in (*op.legal_settings(width, size), *op.variants(width, size)):
                    names = dict(construct(op, width, size, chosen).named_parameters())
                    found.append(set(names))
                    largest = max(largest, set(names), key=len)
                    for name, parameter in names.items():
                        assert ranks.setdefault(name, parameter.dim()) == parameter.dim(), f"{op.name} {name}"
            optional = any(setting.default is not None for setting in op.settings.values())
            assert optional or all(names <= largest for names in found), op.name


@pytest.mark.parametrize("op", MIXERS, ids=name_of)
def test_centred_names_existing_parameters_and_dimensions(op: Operator) -> None:
    parameters = dict(construct(op, 32, 9, op.legal_settings(32, 9)[0]).named_parameters())
    for name, dims in getattr(op.module, "centred", {}).items():
        assert max(dims) < parameters[name].dim()


@pytest.mark.parametrize("op", [op for op in MIXERS if op.family == "attention"], ids=name_of)
def test_attention_has_separate_square_projections(op: Operator) -> None:
    """Square, but for the queries and keys of an operator that is about their width."""
    settings = op.legal_settings(32, 9)[-1]
    module, chosen = construct(op, 32, 9, settings), dict(settings)
    narrow = int(chosen["heads"]) * int(chosen["strip"]) if "strip" in chosen else 32
    for name, rows in (("q", narrow), ("k", narrow), ("v", 32), ("out", 32)):
        layer = getattr(module, name)
        assert isinstance(layer, nn.Linear)
        assert layer.weight.shape == (rows, 32)


def test_a_strip_is_narrower_than_a_head() -> None:
    """One that is not would be spatial_reduction_attention by another name."""
    strip = operator(Kind.TOKEN_MIXER, "strip_attention")
    for width, heads in ((16, 4), (32, 8), (64, 8)):
        for chosen in strip.legal_settings(width, 16, {"heads": (heads,), "strip": (1, 4, 8, 16)}):
            assert int(dict(chosen)["strip"]) < width // heads
        with pytest.raises(SpaceError, match="spatial_reduction_attention"):
            strip.check({"heads": heads, "reduction": 2, "strip": width // heads}, width, 16)


@given(width=widths)
def test_gated_width_is_two_thirds_in_steps_of_eight(width: int) -> None:
    for expansion in (2, 3, 4):
        hidden = construct(operator(Kind.CHANNEL_MIXER, "gated_mlp"), width, 4, {"expansion": expansion}).value.out_features
        assert hidden % 8 == 0
        assert abs(hidden - 2 * expansion * width / 3) <= 4
