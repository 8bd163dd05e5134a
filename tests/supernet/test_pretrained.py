"""A supernet that starts from a published network: its largest member is that network, and its others are parts of it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm_models import timm
from torch import Tensor

import nas
from nas.errors import FileError, SpaceError, UnknownNameError, UsageError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.around import around
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.catalog import convnext, deit, inception_next, metaformer, swin
from nas.supernet.data import DataSplits
from nas.supernet.pretrained import pretrained, start_from
from nas.supernet.supernet import Supernet
from nas.supernet.training import TrainingRecipe, train

Few = Callable[[int], DataSplits]
ONE = (1, 1, 2, 1)
NARROW = {
    "convnext": convnext.architecture(16, ONE),
    "caformer": metaformer.baseline((16, 32, 64, 96), ONE, "ccaa", "mlp_head"),
    "deit": deit.architecture(128),
    "swin": swin.swin(32, ONE, (7, 7, 7, 7)),
}
"""Small copies of published backbones."""


def scattered(architecture: Architecture, num_classes: int = 10, in_channels: int = 3) -> Backbone:
    """A network with nothing at its initial value."""
    torch.manual_seed(0)
    network = nas.build(architecture, num_classes, in_channels)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(torch.rand_like(tensor) * 0.2)
    return network.eval()


def images(side: int, channels: int = 3) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))


def tiny() -> Architecture:
    """A backbone for images of 16 pixels."""
    block = Block((Op.of("depthwise_conv", kernel=5, dilation=1),), Op.of("mlp", expansion=3))
    first = Stage(16, "layer", None, (block, block))
    return Architecture(16, Op.of("patchify", stride=2), (first, Stage(24, "layer", Op("conv"), (block, block))))


@pytest.mark.parametrize("name", NARROW)
@torch.no_grad()
def test_the_largest_member_is_the_loaded_network_bit_for_bit(name: str) -> None:
    network = scattered(NARROW[name])
    supernet = Supernet(around(network.architecture), 10).eval()
    assert start_from(supernet, network) == ()
    assert torch.equal(supernet(images(224), supernet.space.largest()), network(images(224)))
    small = supernet(images(224), supernet.space.smallest())
    assert small.isfinite().all()


def test_batch_norms_of_the_largest_member_see_batches_as_those_of_the_loaded_network() -> None:
    network = scattered(inception_next.architecture(16, ONE)).train()
    supernet = Supernet(around(network.architecture), 10).train()
    start_from(supernet, network)
    batch = images(64).expand(2, -1, -1, -1) * torch.tensor([1.0, 0.5])[:, None, None, None]
    assert torch.equal(supernet(batch, supernet.space.largest()), network(batch))


def test_smaller_members_are_leading_parts_of_the_loaded_weights() -> None:
    network = scattered(tiny())
    supernet = Supernet(around(tiny()), 10)
    start_from(supernet, network)
    genes = supernet.space.encode(supernet.space.largest())
    member = supernet.space.decode({**genes, "s0.width": 8, "s0b1.kernel": 3, "s0b1.channel.expansion": 2})
    found, loaded = supernet.extract(member).state_dict(), network.state_dict()
    assert torch.equal(found["nodes.s0b1_mixer.op.conv.weight"], loaded["nodes.s0b1_mixer.op.conv.weight"][:8, :, 1:4, 1:4])
    assert torch.equal(found["nodes.s0b1_channel.op.expand.weight"], loaded["nodes.s0b1_channel.op.expand.weight"][:16, :8])


@torch.no_grad()
def test_projections_that_only_narrower_members_need_are_there() -> None:
    block = Block((Op.of("global_attention", heads=2),), Op.of("mlp", expansion=2))
    first, second = Stage(16, "layer", None, (block,)), Stage(16, "layer", Op("class_token"), (block,))
    space = around(Architecture(16, Op.of("patchify", stride=4), (first, second), Op("class_token")))
    supernet, genes = Supernet(space, 10).eval(), space.encode(space.largest())
    for widths in itertools.product(*space.widths):
        member = space.decode({**genes, "s0.width": widths[0], "s1.width": widths[1]})
        assert supernet(images(16), member).isfinite().all()


@torch.no_grad()
def test_on_smaller_images_the_kernels_lose_what_lies_beyond_every_edge() -> None:
    network = scattered(NARROW["convnext"])
    supernet = Supernet(around(network.architecture, resolutions=(64,)), 10).eval()
    start_from(supernet, network)
    largest = supernet.space.largest()
    assert dict(largest.stages[3].blocks[0].mixers[0].settings)["kernel"] == 3
    torch.testing.assert_close(supernet(images(64), largest), network(images(64)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", [Op.of("patchify", stride=2), Op.of("strided_convs", stride=2, inner_norm="layer")], ids=str)
@torch.no_grad()
def test_grey_images_are_seen_as_coloured_ones(stem: Op) -> None:
    network = scattered(dataclasses.replace(tiny(), stem=stem))
    supernet = Supernet(around(network.architecture), 10, 1).eval()
    start_from(supernet, network)
    grey = images(16, 1)
    found = supernet(grey, supernet.space.largest())
    torch.testing.assert_close(found, network(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_a_classifier_of_other_classes_stays_as_it_was() -> None:
    network, supernet = scattered(tiny(), num_classes=1000), Supernet(around(tiny()), 10)
    before = {key: tensor.clone() for key, tensor in supernet.store.items()}
    assert start_from(supernet, network) == ("nodes.head.linear.weight", "nodes.head.linear.bias")
    same = {key for key, tensor in supernet.store.items() if torch.equal(tensor, before[key])}
    assert {key for key in same if key.startswith("head/")} == {
        "head/linear/weight",
        "head/linear/bias",
    }
    assert not any(key.startswith(("stem/", "s0b0_mixer/depthwise_conv")) for key in same)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("nodes.stem.op.conv.weight"), "lack 'nodes.stem.op.conv.weight'"),
        (lambda state: state.update(strange=torch.ones(1)), "have beside its parameters 'strange'"),
        (lambda state: state.update({"nodes.stem.norm.weight": torch.ones(5)}), r"has shape \(16,\), the weights \(5,\)"),
        (
            lambda state: state.update({"nodes.head.norm.weight": torch.ones(5)}),
            r"'nodes.head.norm.weight' .* has shape \(24,\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_written(
    change: Callable[[dict[str, Tensor]], object], words: str
) -> None:
    supernet, state = Supernet(around(tiny()), 10), scattered(tiny()).state_dict()
    before = {key: tensor.clone() for key, tensor in supernet.store.items()}
    change(state)
    with pytest.raises(UsageError, match=words):
        supernet.load_member(tiny(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in supernet.store.items())


def test_a_network_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="is no member of space 'around': search the space around it"):
        start_from(Supernet(around(tiny()), 10), scattered(dataclasses.replace(tiny(), resolution=32)))


def test_a_member_of_any_space_can_be_loaded(miniature: nas.SearchSpace) -> None:
    member = miniature.sample(random.Random(3))
    network, supernet = scattered(member, in_channels=1), Supernet(miniature, 10, 1)
    start_from(supernet, network)
    found = supernet.extract(member).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in network.named_parameters())


def test_training_goes_on_from_the_loaded_weights_and_never_loads_them_again(few: Few, tmp_path: Path) -> None:
    space, data = around(tiny()), few(32)
    recipe = TrainingRecipe(epochs=1, batch=16, learning_rate=1e-8, warmup=0.0, random_architectures=0)
    supernet, network = Supernet(space, 10, 1), scattered(tiny(), in_channels=1)
    train(supernet, data, recipe, tmp_path / "checkpoint", pretrained=network)
    trained, first = supernet.extract(tiny()).state_dict(), network.state_dict()
    assert max(float((trained[name] - first[name]).abs().max()) for name in first) < 1e-5
    assert any(not torch.equal(trained[name], first[name]) for name in first)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.zero_()
    again = Supernet(space, 10, 1)
    train(again, data, recipe, tmp_path / "checkpoint", pretrained=network)
    assert all(torch.equal(tensor, supernet.store[key]) for key, tensor in again.store.items())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    model = timm.create_model("mambaout_femto", num_classes=10).eval()
    path = tmp_path_factory.mktemp("weights") / "mambaout.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@torch.no_grad()
def test_the_largest_member_gives_the_logits_of_timms_model(saved: tuple[torch.nn.Module, Path]) -> None:
    model, path = saved
    network = pretrained(f"timm:mambaout_femto.in1k={path}")
    assert network is not None
    supernet = Supernet(nas.load_space("around:mambaout_femto"), 10).eval()
    start_from(supernet, network)
    torch.testing.assert_close(supernet(images(128), supernet.space.largest()), model(images(128)), rtol=1e-4, atol=1e-4)


def test_no_text_is_no_network() -> None:
    assert pretrained("") is None


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("tim:convnext_tiny", UnknownNameError, "unknown published network 'tim'. Did you mean 'timm'?"),
        ("timm:convnext_tny", UnknownNameError, "unknown timm model of the catalogue .* Did you mean 'convnext_tiny'?"),
        ("catalog:convnext_t", UsageError, "published network 'catalog:convnext_t' needs weights"),
        ("catalog:convnext_t=/nowhere", FileError, "cannot read the published network's weights /nowhere"),
    ],
)
def test_a_wrong_text_is_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pretrained(text)


def test_weights_of_another_model_are_refused(saved: tuple[torch.nn.Module, Path]) -> None:
    with pytest.raises(FileError, match="is it another model's"):
        pretrained(f"catalog:convnext_t={saved[1]}")
