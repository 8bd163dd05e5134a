"""What architectures share: gradients reach the shared values that a network uses, and no others."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace
from nas.supernet.skeleton import Skeletons, parameters_on_meta, skeleton_of
from nas.supernet.supernet import Supernet
from nas.supernet.views import Cut, parameters_with_modes, slices, union, view

MLP = Op.of("mlp", expansion=2)
PREDICTOR = ("squeeze", "spread", "narrow_q.weight", "narrow_q.bias", "narrow_k.weight", "narrow_k.bias")
WITHOUT_GRADIENT = {("sparse_attention", f"op.{name}", False) for name in PREDICTOR}
"""Operator, parameter, whether it trains: the predictor of sparse attention decides which keys are kept, which has no
gradient; only in training is that of its prediction added to the scores."""


def one_block(supernet: Supernet, mixer: Op, *, width: int = 24, channel: Op = MLP, norm: str = "layer") -> Architecture:
    """One block with that mixer in the first stage, a plain one in each other stage."""
    stem, plain = Op.of("patchify", stride=2), Block((Op.of("global_filter"),), MLP)
    rest = [Stage(widths[0], "layer", Op.of("conv"), (plain,)) for widths in supernet.space.widths[1:]]
    return Architecture(32, stem, (Stage(width, norm, None, (Block((mixer,), channel),)), *rest))


def backward(network: nn.Module, *inputs: object) -> Tensor:
    """Gradients of a fixed weighted sum of the logits."""
    network.zero_grad()
    logits = network(*inputs)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits * weights).sum().backward()
    return logits


def assert_gradients_are_those_of_the_extracted_network(supernet: Supernet, architecture: Architecture) -> None:
    x = torch.randn(2, 1, architecture.resolution, architecture.resolution, generator=torch.Generator().manual_seed(0))
    network = supernet.extract(architecture)
    assert torch.equal(backward(supernet, x, architecture), backward(network, x))
    expected = {}
    alone = dict(network.named_parameters())
    for node in nodes(architecture, None, supernet.in_channels, supernet.num_classes):
        for share in skeleton_of(node)[1]:
            full = tuple(supernet.store[share.key].shape)
            gradient = alone.pop(f"nodes.{node.name}.{share.local}").grad
            if (node.operator, share.local, supernet.training) in WITHOUT_GRADIENT:
                assert gradient is None, f"{node.name} {share.local}"
                continue
            assert gradient is not None, f"{node.name} {share.local} has no part in the logits"
            whole = expected.setdefault(share.key, torch.zeros(full))
            whole[slices(full, share.shape, share.modes)] += gradient
    assert not alone, "every parameter of the extracted network lives in the store"
    for key, tensor in supernet.store.items():
        if key in expected:
            assert torch.equal(tensor.grad, expected[key]), key
        else:
            assert tensor.grad is None, key


@pytest.mark.parametrize("seed", range(6))
def test_gradients_fill_the_slices_of_a_network_and_nothing_else(everything: Supernet, seed: int) -> None:
    for mode in (True, False):
        everything.train(mode)
        assert_gradients_are_those_of_the_extracted_network(everything, everything.space.sample(random.Random(seed)))


def test_gradients_of_the_corners_are_those_of_the_extracted_networks(everything: Supernet) -> None:
    everything.train()
    for corner in (everything.space.smallest(random.Random(1)), everything.space.largest(random.Random(1))):
        assert_gradients_are_those_of_the_extracted_network(everything, corner)


def test_gradients_of_several_networks_add_up(everything: Supernet) -> None:
    everything.eval()
    first, second = (everything.space.sample(random.Random(seed)) for seed in (3, 4))
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = []
    for architecture in (first, second):
        everything.zero_grad()
        everything(x, architecture).sum().backward()
        parts.append({key: tensor.grad for key, tensor in everything.store.items() if tensor.grad is not None})
    everything.zero_grad()
    for architecture in (first, second):
        everything(x, architecture).sum().backward()
    for key in parts[0].keys() | parts[1].keys():
        expected = sum(part[key] for part in parts if key in part)
        torch.testing.assert_close(everything.store[key].grad, expected, msg=key)


def test_narrow_networks_train_the_leading_channels_only(everything: Supernet) -> None:
    everything.eval()
    mixer = Op.of("global_attention", heads=2)
    backward(everything, torch.randn(2, 1, 32, 32), one_block(everything, mixer, width=16))
    gradient = everything.store["s0b0_mixer/attention/q/weight"].grad
    assert gradient.shape == (32, 32)
    assert gradient[:16, :16].abs().min() > 0
    assert gradient[16:].abs().max() == 0
    assert gradient[:, 16:].abs().max() == 0


def used(supernet: Supernet, architecture: Architecture, suffix: str) -> dict[str, Tensor]:
    """The weights of the first block's mixer in an extracted network."""
    return {
        name.removeprefix("nodes.s0b0_mixer.op."): tensor
        for name, tensor in supernet.extract(architecture).named_parameters()
        if name.startswith("nodes.s0b0_mixer.op.") and name.endswith(suffix)
    }


@pytest.mark.parametrize(
    "other",
    [
        Op.of("window_attention", heads=4, window=4, shift=True),
        Op.of("neighbourhood_attention", heads=4, kernel=3, dilation=1),
    ],
    ids=lambda op: op.name,
)
def test_attention_patterns_share_their_projections(everything: Supernet, other: Op) -> None:
    whole = used(everything, one_block(everything, Op.of("global_attention", heads=2)), "")
    part = used(everything, one_block(everything, other), "")
    for name in ("q.weight", "q.bias", "k.weight", "k.bias", "v.weight", "v.bias", "out.weight", "out.bias"):
        assert torch.equal(whole[name], part[name]), name


def test_attention_does_not_share_with_convolution(everything: Supernet) -> None:
    keys = [key for key in everything.store if key.startswith("s0b0_mixer/")]
    assert {"attention", "depthwise_conv", "mbconv"} <= {key.split("/")[1] for key in keys}
    conv, attention = (one_block(everything, op) for op in (
        Op.of("depthwise_conv", kernel=3, dilation=1), Op.of("global_attention", heads=2),
    ))  # fmt: skip
    backward(everything, torch.randn(2, 1, 32, 32), conv)
    assert everything.store["s0b0_mixer/attention/q/weight"].grad is None
    backward(everything, torch.randn(2, 1, 32, 32), attention)
    assert not [k for k in keys if k.startswith("s0b0_mixer/depthwise_conv/") and everything.store[k].grad is not None]


def test_kernels_share_their_centre(everything: Supernet) -> None:
    large, small = (
        used(everything, one_block(everything, Op.of("depthwise_conv", kernel=kernel, dilation=1)), "weight")
        for kernel in (7, 3)
    )
    kernels = [name for name, tensor in large.items() if tensor.ndim == 4 and tensor.shape[-1] == 7]
    assert kernels
    for name in kernels:
        assert torch.equal(large[name][:, :, 2:5, 2:5], small[name])


def test_windows_share_the_centre_of_their_bias_tables(everything: Supernet) -> None:
    large, small = (
        used(everything, one_block(everything, Op.of("window_attention", heads=heads, window=window, shift=False)), "table")
        for heads, window in ((4, 4), (2, 2))
    )
    assert large["position.table"].shape == (7, 7, 4)
    assert torch.equal(large["position.table"][2:5, 2:5, :2], small["position.table"])


def test_dilation_and_shift_cost_no_parameters(everything: Supernet) -> None:
    pairs = (
        [Op.of("depthwise_conv", kernel=3, dilation=dilation) for dilation in (1, 2)],
        [Op.of("window_attention", heads=2, window=4, shift=shift) for shift in (False, True)],
    )
    for pair in pairs:
        first, second = (used(everything, one_block(everything, op), "") for op in pair)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_expansions_share_the_leading_hidden_channels(everything: Supernet) -> None:
    found = []
    for expansion in (2, 4):
        channel = Op.of("mlp", expansion=expansion)
        network = everything.extract(one_block(everything, Op.of("global_filter"), channel=channel))
        found.append(network.nodes["s0b0_channel"].op)
    assert torch.equal(found[0].expand.weight, found[1].expand.weight[:48])
    assert torch.equal(found[0].reduce.weight, found[1].reduce.weight[:, :48])


def test_blocks_and_stages_share_nothing(everything: Supernet) -> None:
    architecture = everything.space.sample(random.Random(5))
    keys = [share.key for node in nodes(architecture, None, 1, 10) for share in skeleton_of(node)[1]]
    assert len(set(keys)) == len(keys)


def test_the_store_is_as_large_as_its_largest_tenants(miniature: SearchSpace) -> None:
    store = Supernet(miniature, 10, 1).store
    assert store["s0b1_mixer/depthwise_conv/conv/weight"].shape == (24, 1, 5, 5)
    assert store["s1b0_channel/mlp/expand/weight"].shape == (64, 32)
    assert store["head/linear/weight"].shape == (10, 32)
    assert {tuple(store[key].shape) for key in store if key.startswith("head/norm")} == {(32,)}
    assert {tuple(store[key].shape) for key in store if key.startswith("s1_downsample/norm")} == {(24,)}
    assert not [key for key in store if key.startswith(("s0b2", "s1b2", "s2"))]


def test_no_shared_value_is_left_uninitialised(miniature: SearchSpace) -> None:
    space = dataclasses.replace(miniature, mixers=(("depthwise_conv", "window_attention"),) * 2, settings={"window": (2, 4)})
    for key, tensor in Supernet(space, 10, 1).store.items():
        assert tensor.isfinite().all(), key
        if key.endswith("weight") and tensor.ndim > 1:
            assert (tensor != 0).float().mean() > 0.99, key


def test_skeletons_hold_real_buffers_and_no_weights() -> None:
    with parameters_on_meta():
        norm = nn.BatchNorm2d(4)
    assert norm.weight.is_meta
    assert torch.equal(norm.running_var, torch.ones(4))
    assert not nn.Linear(2, 2).weight.is_meta


def test_the_skeleton_used_longest_ago_is_dropped(everything: Supernet) -> None:
    cache = Skeletons(capacity=2)
    first, second, third = nodes(everything.space.sample(random.Random(0)), None, 1, 10)[:3]

    def tensors(node: Node) -> list[nn.Parameter]:
        return list(cache.get(node)[0].parameters())

    kept, dropped = tensors(first), tensors(second)
    assert all(one is other for one, other in zip(tensors(first), kept, strict=True))
    tensors(third)
    assert all(one is other for one, other in zip(tensors(first), kept, strict=True))
    assert not any(one is other for one, other in zip(tensors(second), dropped, strict=True))


def test_hooks_of_an_extracted_network_stay_with_it(everything: Supernet) -> None:
    architecture, heard = everything.space.smallest(random.Random(1)), []
    extracted = everything.extract(architecture)
    for module in extracted.modules():
        module.register_forward_hook(lambda *_: heard.append(1))
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        everything(image, architecture)
        everything.extract(architecture)(image)
    assert not heard


def test_a_batch_of_nothing_leaves_no_trace_in_evaluation(everything: Supernet) -> None:
    drawn = (everything.space.sample(random.Random(seed)) for seed in range(50))
    architecture = next(each for each in drawn if "batch" in {stage.norm for stage in each.stages})
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        wanted = everything.eval()(image, architecture)
        everything.train()(image * torch.nan, architecture)
        assert torch.equal(everything.eval()(image, architecture), wanted)


def test_two_uses_of_a_skeleton_share_no_module(everything: Supernet) -> None:
    node = nodes(everything.space.sample(random.Random(0)), None, 1, 10)[1]
    cache = Skeletons()
    one, other = cache.get(node)[0], cache.get(node)[0]
    assert not {id(module) for module in one.modules()} & {id(module) for module in other.modules()}
    one.marker = 1
    assert not hasattr(other, "marker")


@pytest.mark.parametrize(
    ("full", "part", "modes", "expected"),
    [
        ((7,), (3,), (True,), (slice(2, 5),)),
        ((7,), (3,), (False,), (slice(0, 3),)),
        ((8,), (4,), (True,), (slice(2, 6),)),
        ((8,), (3,), (True,), (slice(3, 6),)),
        ((4, 5, 5), (2, 3, 5), (False, True, True), (slice(0, 2), slice(1, 4), slice(0, 5))),
    ],
)
def test_slices_lead_or_are_centred(
    full: tuple[int, ...], part: tuple[int, ...], modes: tuple[bool, ...], expected: tuple[slice, ...]
) -> None:
    assert slices(full, part, modes) == expected
    tensor = torch.arange(math.prod(full)).view(full)
    cut = Cut.out_of(full, part, modes)
    assert (cut.slices, cut.shape, cut.whole) == (expected, part, False)
    assert torch.equal(cut.of(tensor), tensor[expected])
    cut.of(tensor).fill_(-1)
    assert (tensor[expected] == -1).all()
    assert (tensor == -1).sum() == math.prod(part)


def test_a_store_that_would_lie_in_memory_in_another_order_is_refused() -> None:
    supernet = Supernet(load_space("tiny"), 10)
    supernet.to(torch.float64)
    with pytest.raises(UsageError, match="must stay contiguous"):
        supernet.to(memory_format=torch.channels_last)


def test_a_view_of_the_whole_is_the_tensor_itself_and_a_part_is_contiguous() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    whole = Cut.out_of((3, 4), (3, 4), (False, False))
    assert view(tensor, whole) is tensor
    assert whole.of(tensor) is tensor
    part = view(tensor, Cut.out_of((3, 4), (2, 2), (False, False)))
    assert part.is_contiguous()
    assert part.tolist() == [[0, 1], [4, 5]]


def test_union_has_room_for_both() -> None:
    assert union((3, 8), (5, 2)) == (5, 8)


def test_convolutions_and_declared_tables_are_centred() -> None:
    class Table(nn.Module):
        centred = {"table": (0,)}  # noqa: RUF012 - as operators declare it

        def __init__(self) -> None:
            super().__init__()
            self.table, self.conv = nn.Parameter(torch.zeros(3, 2)), nn.Conv2d(1, 1, 3)

    modes = {name: mode for name, _, mode in parameters_with_modes(Table())}
    assert modes == {"table": (True, False), "conv.weight": (False, False, True, True), "conv.bias": (False,)}
