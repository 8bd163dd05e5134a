"""Weights that choices have to themselves: exact as shared ones, apart where they are asked to be, never taken for others."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.errors import FileError, UnknownNameError, UsageError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.graph import nodes
from nas.search_spaces.space import SearchSpace
from nas.supernet.data import DataSplits
from nas.supernet.importance import reorder
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.sharing import Sharing
from nas.supernet.supernet import Supernet
from nas.supernet.training import train, training_identity

Few = Callable[[int], DataSplits]
GRAINS = ("norms", "operators", "widths")
EVERY = ",".join(GRAINS)
MLP = Op.of("mlp", expansion=2)


def widened(unshared: str, **fields: Any) -> Supernet:
    """The supernet of `tiny` with few mixers, free placement and no shared value at its initial one."""
    tiny = nas.load_space("tiny")
    space = dataclasses.replace(
        tiny, name="unshared", depths=((1, 2),) * 3, placements=("free",), stems=("patchify", "conv"), partners=("pooling",),
        mixers=(("depthwise_conv", "window_attention", "global_attention"),) * 3, **fields,
    )  # fmt: skip
    supernet = Supernet(space, 10, 1, unshared=unshared)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in supernet.parameters():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2 - 0.1)
    return supernet


@pytest.fixture(scope="module", params=[*GRAINS, EVERY])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    """Branches, two patterns of attention, two channel mixers of one family, two norms."""
    return widened(request.param, channel_mixers=("mlp", "conv_mlp")).eval()


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def block(mixer: Op, *, norm: str = "layer", width: int = 24, channel: Op = MLP) -> Architecture:
    plain = Block((Op.of("depthwise_conv", kernel=3, dilation=1),), MLP)
    stages = Stage(width, norm, None, (Block((mixer,), channel),)), Stage(48, "layer", Op.of("conv"), (plain,))
    return Architecture(32, Op.of("patchify", stride=2), (*stages, Stage(96, "layer", Op.of("conv"), (plain,))))


def keys(supernet: Supernet, architecture: Architecture, part: str) -> set[str]:
    """The store's tensors behind the parameters of the first block's mixer whose name holds `part`."""
    cuts = supernet.cuts(architecture).items()
    return {key for name, (key, _) in cuts if name.startswith("nodes.s0b0_") and part in name}


@pytest.mark.parametrize("seed", range(4))
def test_a_slice_equals_its_extracted_copy(supernet: Supernet, seed: int) -> None:
    architecture = supernet.space.sample(random.Random(seed))
    assert torch.equal(supernet(image(), architecture), supernet.extract(architecture).eval()(image()))


def test_the_store_has_room_for_every_member(supernet: Supernet) -> None:
    rng = random.Random(0)
    members = [supernet.space.sample(rng) for _ in range(150)]
    branches = [member for member in members if any(node.kind == "split" for node in nodes(member))]
    assert branches
    for member in members:
        supernet.cuts(member)


def test_hidden_channels_are_put_in_order_without_a_change_of_the_largest() -> None:
    supernet = widened("norms,operators", channel_mixers=("mlp", "conv_mlp"), splits=(1.0,)).eval()
    shared = widened("", channel_mixers=("mlp", "conv_mlp"), splits=(1.0,))
    largest = supernet.space.largest(random.Random(0))
    before = supernet(image(), largest)
    assert reorder(supernet) > reorder(shared) > 0
    torch.testing.assert_close(supernet(image(), largest), before, rtol=1e-3, atol=1e-4)


def test_norms_are_apart_for_each_kind_and_operator() -> None:
    shared, apart = (widened(unshared) for unshared in ("", "norms"))
    conv, attention = Op.of("depthwise_conv", kernel=3, dilation=1), Op.of("global_attention", heads=2)
    places = [block(conv), block(conv, norm="batch"), block(attention), block(attention, norm="batch")]
    assert len({key for place in places for key in keys(shared, place, "mixer.norm.weight")}) == 1
    assert len({key for place in places for key in keys(apart, place, "mixer.norm.weight")}) == 4
    for one in (shared, apart):
        assert keys(one, block(attention), "op.q") == keys(
            one, block(Op.of("window_attention", heads=2, window=4, shift=True)), "op.q"
        )


def test_operators_of_one_family_are_apart_and_shapes_of_one_are_not() -> None:
    shared, apart = (widened(unshared) for unshared in ("", "operators"))
    whole, window = Op.of("global_attention", heads=2), Op.of("window_attention", heads=2, window=4, shift=True)
    assert keys(shared, block(whole), "mixer.op.") & keys(shared, block(window), "mixer.op.")
    assert not keys(apart, block(whole), "mixer.op.") & keys(apart, block(window), "mixer.op.")
    small, large = (Op.of("depthwise_conv", kernel=kernel, dilation=1) for kernel in (3, 7))
    assert keys(apart, block(small), "mixer") == keys(apart, block(large), "mixer")
    assert keys(apart, block(whole), "norm") == keys(apart, block(window), "norm")


def test_widths_are_apart() -> None:
    supernet = widened("widths")
    mixer = Op.of("depthwise_conv", kernel=3, dilation=1)
    narrow, wide = (block(mixer, width=width) for width in (16, 32))
    assert not keys(supernet, narrow, "") & keys(supernet, wide, "")
    assert keys(supernet, narrow, "") == keys(supernet, block(mixer, width=16, norm="batch"), "")


def test_the_usual_sharing_keeps_names_values_and_identity(miniature: SearchSpace) -> None:
    """Checkpoints and archives of before stay good."""
    recipe = TrainingRecipe()
    assert "unshared" not in recipe.decisive()
    assert "unshared" in TrainingRecipe(unshared="norms").decisive()
    plain, named = (Supernet(miniature, 10, 1, unshared=text) for text in ("", " , "))
    assert not [key for key in plain.store if "@" in key]
    assert all(torch.equal(tensor, named.store[key]) for key, tensor in plain.store.items())


def test_a_checkpoint_belongs_to_its_sharing(miniature: SearchSpace, few: Few, tmp_path: Path) -> None:
    data = few(64)
    recipes = {text: TrainingRecipe(strategy="uniform", epochs=1, batch=16, unshared=text) for text in ("", "norms", "widths")}
    nets = {text: Supernet(miniature, 10, 1, unshared=text) for text in recipes}
    assert len({training_identity(nets[text], data, recipe) for text, recipe in recipes.items()}) == 3
    train(nets["norms"], data, recipes["norms"], tmp_path / "checkpoint")
    again = Supernet(miniature, 10, 1, unshared="norms")
    train(again, data, recipes["norms"], tmp_path / "checkpoint")
    assert all(torch.equal(tensor, again.store[key]) for key, tensor in nets["norms"].store.items())
    with pytest.raises(FileError, match="belongs to another space, seed, data set or training recipe"):
        train(nets[""], data, recipes[""], tmp_path / "checkpoint")
    with pytest.raises(UsageError, match="the recipe keeps norms apart, but the supernet was made to keep nothing apart"):
        train(nets[""], data, recipes["norms"], tmp_path / "other")


@given(st.lists(st.sampled_from(GRAINS)))
def test_what_is_named_twice_or_in_another_order_is_the_same(names: list[str]) -> None:
    sharing = Sharing.parse(" , ".join(names))
    assert Sharing.parse(str(sharing)) == sharing
    assert set(str(sharing).split(",")) - {""} == set(names)
    assert TrainingRecipe(unshared=",".join(names)) == TrainingRecipe(unshared=",".join(reversed(names)))


def test_an_unknown_name_is_answered_with_the_nearest(miniature: SearchSpace) -> None:
    for make in (lambda: TrainingRecipe(unshared="norm"), lambda: Supernet(miniature, 10, 1, unshared="norm")):
        with pytest.raises(UnknownNameError, match=r"unknown kind of weights to keep apart 'norm'\. Did you mean 'norms'"):
            make()
