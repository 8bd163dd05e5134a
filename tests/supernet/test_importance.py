"""Importance ordering: it changes no largest network, and puts the channels that are read most first."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

import nas
from nas.search_spaces.registry import Kind, Operator, operators
from nas.search_spaces.space import SearchSpace
from nas.supernet.importance import _spread, reorder, symmetries
from nas.supernet.supernet import Supernet

DECLARED = [op for kind in (Kind.CHANNEL_MIXER, Kind.TOKEN_MIXER) for op in operators(kind) if hasattr(op.module, "symmetries")]


@pytest.mark.parametrize("op", DECLARED, ids=lambda op: op.name)
def test_declared_channels_may_be_permuted_in_every_variant(op: Operator) -> None:
    torch.manual_seed(0)
    for settings in op.variants(16, 8):
        module = op.module(16, 8, **dict(settings)).double().eval()
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                torch.nn.init.uniform_(tensor, 0.1, 1.0)
        x = torch.randn(2, 8, 8, 16, dtype=torch.float64)
        before, tensors = module(x), {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for places in op.module.symmetries:
            present = [(name, axis) for name, axis in places if name in tensors]
            order = torch.randperm(tensors[present[-1][0]].shape[present[-1][1]])
            with torch.no_grad():
                for name, axis in present:
                    tensors[name].copy_(tensors[name].index_select(axis, order))
                    for statistic in ("running_mean", "running_var") if name.endswith("norm.weight") else ():
                        beside = name.replace("weight", statistic)
                        if beside in tensors:
                            tensors[beside].copy_(tensors[beside].index_select(0, order))
        torch.testing.assert_close(module(x), before)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    tiny = nas.load_space("tiny")
    space = dataclasses.replace(tiny, depths=((1,), (1,), (1, 2)), splits=(1.0,), settings={**tiny.settings, "heads": (4,)})
    return Supernet(space, 10, 1)


def test_the_largest_networks_compute_what_they_did(supernet: Supernet) -> None:
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    largest = [supernet.space.largest(random.Random(seed)) for seed in range(12)]
    supernet.eval()
    before = [supernet(x, architecture) for architecture in largest]
    kept = {key: tensor.detach().clone() for key, tensor in supernet.store.items()}
    assert reorder(supernet) >= 15
    for key, axis in next(iter(symmetries(supernet))).places:
        assert not torch.equal(kept[key], supernet.store[key]), axis
    for architecture, logits in zip(largest, before, strict=True):
        torch.testing.assert_close(supernet(x, architecture), logits, rtol=1e-4, atol=1e-5)


def test_the_channels_read_most_come_first(supernet: Supernet) -> None:
    reorder(supernet)
    for symmetry in symmetries(supernet):
        key, axis = symmetry.places[-1]
        norms = supernet.store[key].abs().movedim(axis, 0).flatten(1).sum(1).view(symmetry.blocks, -1).sum(1)
        assert bool((norms[:-1] >= norms[1:] - 1e-4).all()), key


def test_moments_go_along_with_their_weights(miniature: SearchSpace) -> None:
    supernet = Supernet(miniature, 10, 1)
    moments = {key: tensor.detach().clone() for key, tensor in supernet.store.items()}
    assert reorder(supernet, [moments]) > 0
    assert all(torch.equal(tensor, supernet.store[key]) for key, tensor in moments.items())


def test_blocks_spread_to_their_channels() -> None:
    assert _spread(torch.tensor([1, 0]), 6).tolist() == [3, 4, 5, 0, 1, 2]
