"""Every backbone of the catalogue: its numbers, its graph, and its weights where timm has them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

import pytest
import torch
from timm_models import timm
from torch import Tensor, nn

import nas
from nas.errors import FileError, UnknownNameError, UsageError
from nas.search_spaces.catalog.entry import Entry, entries
from nas.search_spaces.catalog.weights import fill, translate
from nas.supernet.skeleton import parameters_on_meta

EVERY = list(entries())
IN_TIMM = [entry for entry in EVERY if entry.timm]
TOLERANCE = 1e-4


def label(entry: Entry) -> str:
    return entry.name


def families() -> list[Entry]:
    """The cheapest backbone of each kind that timm has, by the first word of its name there."""
    found: dict[str, Entry] = {}
    for entry in sorted(IN_TIMM, key=lambda entry: entry.macs):
        found.setdefault(str(entry.timm).split("_")[0], entry)
    return list(found.values())


@functools.cache
def network(name: str) -> nn.Module:
    """The backbone without memory for its parameters."""
    with parameters_on_meta():
        return nas.build(nas.catalog.get(name), nas.catalog.about(name).num_classes)


@pytest.mark.parametrize("entry", EVERY, ids=label)
def test_parameters_and_macs_are_what_the_catalogue_says(entry: Entry) -> None:
    assert sum(p.numel() for p in network(entry.name).parameters()) == entry.params
    assert nas.cost(entry.architecture, num_classes=entry.num_classes).macs == entry.macs
    assert entry.architecture.resolution == entry.resolution


@pytest.mark.parametrize("entry", EVERY, ids=label)
def test_a_backbone_is_a_value_with_a_source(entry: Entry) -> None:
    architecture = entry.architecture
    assert nas.Architecture.from_json(architecture.to_json()) == architecture
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", entry.cite)
    assert re.search(r"@[0-9a-f]{40}|timm \d", entry.source), entry.source
    assert (entry.timm is None) == (entry.rules is None)
    assert entry.top1 is None or 50 < entry.top1 < 90


def test_no_two_backbones_are_the_same_network() -> None:
    digests = {entry.architecture.digest: entry.name for entry in EVERY}
    assert len(digests) == len(EVERY)


def without_counters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("entry", IN_TIMM, ids=label)
def test_the_parameters_are_timms_one_by_one(entry: Entry) -> None:
    assert entry.rules is not None
    with torch.device("meta"):
        theirs = timm.create_model(entry.timm)
    assert sum(p.numel() for p in theirs.parameters()) == entry.params
    ours = translate(without_counters(theirs), entry.rules())
    with torch.device("meta"):
        fill(nas.build(entry.architecture, entry.num_classes), ours)


def scattered(model: nn.Module) -> nn.Module:
    """No parameter and no running statistic at its initial value, and layer scales that let every block be heard."""
    generator = torch.Generator().manual_seed(3)
    statistics = (b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    with torch.no_grad():
        for tensor in (*(p for p in model.parameters() if p.numel() == max(p.shape, default=1)), *statistics):
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
        for tensor in (p for p in model.parameters() if p.ndim >= 2):
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.01)
    return model.eval()


@pytest.mark.parametrize("entry", families(), ids=label)
def test_logits_agree_with_timm_after_loading_its_weights(entry: Entry) -> None:
    torch.manual_seed(0)
    theirs = scattered(timm.create_model(entry.timm))
    ours = nas.catalog.load_timm(entry.name, theirs)
    image = torch.randn(1, 3, entry.resolution, entry.resolution)
    with torch.no_grad():
        expected = theirs(image)
        found = ours(image)
    scale = expected.abs().max()
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(scale))


def test_the_number_of_classes_and_of_image_channels_is_the_checkpoints() -> None:
    model = timm.create_model(
        "convnext_atto" if "convnext_atto" in nas.catalog.names() else "swin_tiny_patch4_window7_224", num_classes=7, in_chans=1
    )
    name = next(entry.name for entry in IN_TIMM if entry.timm == model.default_cfg["architecture"])
    network = nas.catalog.load_timm(name, model.state_dict())
    side = nas.catalog.about(name).resolution
    with torch.no_grad():
        assert network(torch.zeros(1, 1, side, side)).shape == (1, 7)


def broken(state: Mapping[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], str]]:
    names = sorted(state)
    yield {name: state[name] for name in names[1:]}, "lacks"
    yield {**state, "no.such.name": torch.zeros(1)}, "no.such.name"
    matrix = next(name for name in names if state[name].ndim == 2)
    yield {**state, matrix: state[matrix][:, 1:]}, "shape"


def test_a_foreign_or_damaged_checkpoint_is_refused_with_the_tensor_at_fault() -> None:
    entry = next(entry for entry in IN_TIMM if entry.name == "swin_t")
    state = without_counters(timm.create_model(entry.timm))
    for wrong, told in broken(state):
        with pytest.raises(FileError, match=told):
            nas.catalog.load_timm(entry.name, wrong)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="swin_t"):
        nas.catalog.get("swin_tt")
    official = next((entry.name for entry in EVERY if entry.timm is None), None)
    if official is not None:
        with pytest.raises(UsageError, match=official):
            nas.catalog.load_timm(official, {})
