"""A supernet over every registered operator, and a miniature space with data that trains in a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import nas
from nas.search_spaces.maps import Map
from nas.search_spaces.registry import Kind, names
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import READ_FIRST, carries_overview, downsample_of, stem_map, stem_of
from nas.supernet.data import DataSplits, load_data
from nas.supernet.supernet import Supernet


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scattered(supernet: Supernet) -> Supernet:
    """No shared value at its initial value, so that norms and biases of wrong places are noticed."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in supernet.parameters():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2 - 0.1)
    return supernet


def regular(space: SearchSpace, kind: Kind) -> tuple[str, ...]:
    """The stems or downsamples that give the maps of a space's strides; a class token, say, does not."""
    if kind == Kind.DOWNSAMPLE:
        listed = (name for name in names(kind) if not carries_overview(name))
        return tuple(name for name in listed if downsample_of(space, name, 32, Map.square(16), 2) is not None)
    stems = {name: stem_of(space, name, 32, 32) for name in names(kind)}
    return tuple(name for name, stem in stems.items() if stem is not None and stem_map(space, stem, 32) == Map.square(16))


def widened(name: str, **fields: Any) -> Supernet:
    """The supernet of `tiny` with three blocks a stage, free placement, and other fields changed."""
    stems = fields.pop("stems", ("patchify", "conv"))
    tiny = nas.load_space("tiny")
    space = dataclasses.replace(tiny, name=name, depths=((1, 2, 3),) * 3, placements=("free",), stems=stems, **fields)
    return scattered(Supernet(space, 10, 1))


@pytest.fixture(scope="session")
def everything() -> Supernet:
    """The mixers of `tiny`, every twelfth of the others, and all channel mixers, in all stages.

    All token mixers in one supernet would take minutes to build: each has one of its own in `test_exactness`.
    """
    usual = {name for stage in nas.load_space("tiny").mixers for name in stage}
    others = [name for name in names(Kind.TOKEN_MIXER) if name not in usual]
    mixers = (*sorted(usual), *others[::12])
    return widened("everything", mixers=(mixers,) * 3, partners=mixers, channel_mixers=tuple(names(Kind.CHANNEL_MIXER)))


@pytest.fixture(scope="session")
def surroundings() -> Supernet:
    """All stems, downsamples, norms, residuals and heads that a space can hold, around two mixers."""
    tiny = nas.load_space("tiny")
    return widened(
        "surroundings",
        mixers=(("depthwise_conv", "global_filter"),) * 3,
        partners=("depthwise_conv", "global_filter"),
        channel_mixers=("mlp",),
        stems=regular(tiny, Kind.STEM),
        downsamples=regular(tiny, Kind.DOWNSAMPLE),
        heads=tuple(name for name in names(Kind.HEAD) if name not in READ_FIRST),
        residuals=tuple(names(Kind.RESIDUAL)),
        norms=tuple(names(Kind.NORM)),
    )


@pytest.fixture(scope="session")
def miniature() -> SearchSpace:
    return SearchSpace(
        name="miniature",
        resolutions=(8, 16),
        stems=("patchify",),
        stem_stride=2,
        downsamples=("conv",),
        norms=("layer", "batch"),
        depths=((1, 2), (1, 2)),
        widths=((16, 24), (24, 32)),
        mixers=(("depthwise_conv", "pooling"), ("depthwise_conv", "global_attention")),
        settings={"kernel": (3, 5), "dilation": (1,), "heads": (2,), "expansion": (2,)},
    )


@pytest.fixture(scope="session")
def digits() -> DataSplits:
    """All digits at 16 pixels."""
    return load_data("digits", 16)


@pytest.fixture(scope="session")
def few(digits: DataSplits) -> Callable[[int], DataSplits]:
    """The first training and validation digits."""

    def cut(count: int) -> DataSplits:
        train, validation = (part.take(torch.arange(min(count, len(part)))) for part in (digits.train, digits.validation))
        return dataclasses.replace(digits, train=train, validation=validation)

    return cut


@pytest.fixture
def random_state_is_kept() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
