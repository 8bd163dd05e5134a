"""Every backbone of the catalogue: its numbers, its graph, and its weights where timm has them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from timm_models import timm
from torch import Tensor, nn

import nas
from nas.errors import FileError, UnknownNameError, UsageError
from nas.search_spaces.catalog.entry import Entry, entries
from nas.search_spaces.catalog.weights import fill, translate

EVERY = list(entries())
IN_TIMM = [entry for entry in EVERY if entry.timm]
TOLERANCE = 1e-4


def label(entry: Entry) -> str:
    return entry.name


def families() -> dict[str, list[Entry]]:
    """The backbones that timm has too, cheapest first, by the first word of their name there."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(IN_TIMM, key=lambda entry: entry.macs):
        found.setdefault(str(entry.timm).split("_")[0], []).append(entry)
    return found


CHEAPEST = list(
    {getattr(entry.rules, "func", entry.rules): entry for found in families().values() for entry in found[::-1]}.values()
)
"""One backbone for each set of rules, the cheapest."""
OUTERMOST = list({entry.name: entry for found in families().values() for entry in (found[0], found[-1])}.values())
"""The cheapest and the dearest of each family: those between differ from them in numbers only."""


def ends_in_make_test(every: list[Entry]) -> list[object]:
    """The backbones as parameters of a test; `make test-all` sees more of each family than its cheapest and its dearest."""
    found: dict[str, list[Entry]] = {}
    for entry in sorted(every, key=lambda entry: entry.macs):
        found.setdefault(re.split(r"[_\d]", entry.name)[0], []).append(entry)
    ends = {entry.name for family in found.values() for entry in (family[0], family[-1])}
    return [pytest.param(entry, marks=() if entry.name in ends else pytest.mark.thorough, id=entry.name) for entry in every]


@pytest.mark.parametrize("entry", ends_in_make_test(EVERY))
def test_parameters_and_macs_are_what_the_catalogue_says(entry: Entry) -> None:
    cost = nas.cost(entry.architecture, num_classes=entry.num_classes)
    assert (cost.params, cost.macs) == (entry.params, entry.macs)
    assert entry.architecture.resolution == entry.resolution


with (Path(__file__).parent / "published.csv").open(encoding="utf-8") as file:
    PUBLISHED = list(csv.DictReader(file))
"""Counts of the official implementations, made apart from this package: convolutions and matrix products."""


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_parameters_and_macs_are_those_counted_on_the_official_code(row: dict[str, str]) -> None:
    entry = nas.catalog.about(row["name"])
    assert round(entry.params / 1e6, 2) == pytest.approx(float(row["params_M"]), abs=0.0051)
    if row["macs_G"]:
        off = entry.macs / 1e9 / float(row["macs_G"]) - 1
        assert 0.02 < off < 0.09 if row["why_macs_differ"] else abs(off) <= 0.02, f"{off:+.1%}"


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


@pytest.mark.parametrize("entry", OUTERMOST, ids=label)
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


@pytest.mark.parametrize("entry", CHEAPEST, ids=label)
def test_logits_agree_with_timm_after_loading_its_weights(entry: Entry) -> None:
    torch.manual_seed(0)
    theirs = scattered(timm.create_model(entry.timm))
    ours = nas.catalog.load_timm(entry.name, theirs)
    image = torch.randn(1, 3, entry.resolution, entry.resolution)
    with torch.no_grad():
        expected = theirs(image)
        found = ours(image)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= TOLERANCE


def test_the_number_of_classes_and_of_image_channels_is_the_checkpoints() -> None:
    model = timm.create_model("convnext_atto", num_classes=7, in_chans=1)
    network = nas.catalog.load_timm("convnext_atto", model.state_dict())
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 224, 224)).shape == (1, 7)


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
    with pytest.raises(UsageError, match="timm has no 'cswin_t'"):
        nas.catalog.load_timm("cswin_t", {})
