"""Tables that only name their networks: what the networks run is found from their graphs, without weights or data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas.errors import FileError, UsageError
from nas.predictors.cost import module_cost
from nas.predictors.tables import read_table, variants
from nas.predictors.tables.benchmark import Runner, jobs
from nas.predictors.tables.models.amounts import NAMES, amounts, class_of
from nas.predictors.tables.models.catalogue import read_catalogue, traced, write_catalogue
from nas.predictors.tables.models.fusion import kernels
from nas.predictors.tables.models.operations import RESULT, operations
from nas.predictors.tables.models.reading import family
from nas.predictors.tables.noise import noise_floor
from nas.predictors.tables.splits import parts


class Hybrid(nn.Module):
    """A convolution with norm and gate, then attention and a linear layer."""

    def __init__(self, width=8, groups=1, stride=2):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride, 1)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(width, width, 3, 1, 1, groups=groups)
        self.gate = nn.Conv2d(width, width, 1)
        self.out = nn.Linear(width, 10)

    def forward(self, image):
        x = functional.relu(self.norm(self.stem(image)))
        x = x * torch.sigmoid(self.gate(self.mix(x).mean((2, 3), keepdim=True)))
        x = x.flatten(2).mT[:, None]
        x = functional.scaled_dot_product_attention(x, x, x)[:, 0]
        return self.out(x).mean(1)


def heard(size=16, **settings_):
    with torch.device("meta"):
        return operations(Hybrid(**settings_), size)


@given(st.sampled_from([4, 8, 12]), st.integers(5, 20), st.sampled_from([1, 2, 4]), st.integers(1, 2))
@settings(max_examples=12, deadline=None)
def test_macs_are_those_of_the_cost_model(width, size, groups, stride):
    found = heard(size, width=width, groups=groups, stride=stride)
    assert sum(one.macs for one in found) == module_cost(Hybrid(width, groups, stride), (torch.zeros(1, 3, size, size),)).macs


def test_operations_are_heard_in_order_with_what_feeds_them():
    found = heard()
    names = [one.name for one in found]
    assert names == [
        "convolution", "native_batch_norm", "relu", "convolution", "mean", "convolution", "sigmoid", "mul", "attention",
        "addmm", "mean", RESULT,
    ]  # fmt: skip
    assert found[0].sources == (-1,)
    assert found[7].sources == (2, 6)
    assert found[-1].sources == (10,)
    assert found[0].stride == 2
    assert found[9].inner == 8
    assert found[8].reads[0] == (1, 1, 64, 8)


def test_operations_in_place_feed_whoever_reads_the_storage():
    class InPlace(nn.Module):
        def forward(self, image):
            x = image + 1
            x.relu_()
            return x * 2

    found = operations(InPlace(), 4)
    assert [one.name for one in found] == ["add", "relu", "mul", RESULT]
    assert found[2].sources == (1,)


def test_weights_that_are_computed_are_no_parameters_but_give_the_kernel():
    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(6, 3, 5, 5)), nn.Parameter(torch.zeros(6))

        def forward(self, image):
            return functional.conv2d(image, self.weight / 2, self.bias)

    with torch.device("meta"):
        found = operations(Standardised(), 9)
    assert found[1].filter == (6, 3, 5, 5)
    assert found[1].macs == 6 * 25 * 3 * 25


def test_a_network_that_needs_numbers_is_refused_in_one_line():
    class Branches(nn.Module):
        def forward(self, image):
            return image if image.sum().item() > 0 else -image

    with pytest.raises(UsageError, match="runs on no image of 8 x 8 without data") as caught:
        operations(Branches(), 8)
    assert "\n" not in str(caught.value)


def test_what_a_compiler_joins_reads_and_writes_memory_once():
    found = kernels(heard())
    assert [(one.members, one.library) for one in found] == [
        ((0,), True), ((1, 2), False), ((3,), True), ((4,), False), ((5,), True), ((6, 7), False), ((8,), True), ((9,), True),
        ((10,), False),
    ]  # fmt: skip
    elements = 8 * 8 * 8
    assert found[1].read == found[1].written == elements
    assert found[5].read == elements + 8


def test_what_follows_a_reduction_is_another_kernel():
    class Centred(nn.Module):
        def forward(self, image):
            return (image - image.mean((2, 3), keepdim=True)).relu()

    assert [one.members for one in kernels(operations(Centred(), 4))] == [(0,), (1, 2)]


def test_amounts_tell_kinds_of_operation_apart():
    one, grouped = (amounts(heard(groups=groups)) for groups in (1, 2))
    deep = amounts(heard(groups=8))
    assert (one["stem.calls"], one["conv3.calls"], one["conv1.calls"], one["linear.calls"], one["attention.calls"]) == (1,) * 5
    assert one["conv3.macs"] == 8 * 64 * 72
    assert grouped["grouped.macs"] == one["conv3.macs"] / 2
    assert deep["depthwise3.macs"] == one["conv3.macs"] / 8
    assert one["batch_norm.elements"] == 2 * 512 + 2 * 8  # ATen's norm also returns means and deviations
    assert one["weights"] > 8 * 3 * 9 + 72 * 8
    assert set(one) == set(NAMES)
    assert {class_of(op) for op in heard() if op.name == "sigmoid"} == {"activation"}


def test_roofs_and_tiles_bound_the_work_from_above():
    found = amounts(heard())
    for kind in ("stem", "conv3", "conv1", "linear", "attention"):
        for ratio in (16, 64, 256):
            assert found[f"{kind}.roof{ratio}"] == pytest.approx(max(found[f"{kind}.macs"] / ratio, found[f"{kind}.elements"]))
        assert found[f"{kind}.macs"] <= found[f"{kind}.tiles32"] <= found[f"{kind}.tiles128"]
    assert found["conv3.tiles32"] == found["conv3.macs"] * (32 / 8) * (96 / 72)


def catalogue(path, number=200):
    """Amounts of made-up networks of thirty families: two kinds of work."""
    rng = np.random.default_rng(0)
    known = {}
    for place in range(number):
        row = dict.fromkeys(NAMES, 0.0)
        row["conv3.macs"], row["linear.macs"] = (1e8 * rng.lognormal(0, 1, 2)).round(-4)
        row |= {"conv3.elements": 1e5, "linear.elements": 2e5, "conv3.calls": 10.0, "fused.elements": 1e5, "weights": 1e6}
        known[f"{'abcdefghijklmnopqrstuvwxyzäöü'[place % 26]}net{place % 26}_{place}", 224] = np.array([row[n] for n in NAMES])
    write_catalogue(path, known)
    return read_catalogue(path)


def speed_table(path, known, batch=4.0):
    prices = {"conv3.macs": 1e-7, "linear.macs": 3e-7}
    rng = np.random.default_rng(1)
    lines = []
    for (model, size), row in known.items():
        time = sum(row[NAMES.index(name)] * price for name, price in prices.items())
        lines += [
            {"bench": bench, "model": model, "infer_step_time": batch * factor * time * np.exp(0.01 * rng.standard_normal()),
             "infer_batch_size": batch, "infer_img_size": size}
            for bench, factor in (("phone", 1.0), ("board", 5.0))
        ]  # fmt: skip
    frame = pd.DataFrame(lines)
    frame.to_csv(path, index=False)
    return frame


def test_a_catalogue_comes_back_as_it_was_written_and_is_the_same_file_again(tmp_path):
    known = catalogue(tmp_path / "one.csv.gz")
    write_catalogue(tmp_path / "two.csv.gz", known)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    assert len(known) == 200


@pytest.mark.parametrize("content", [b"no gzip", b"\x1f\x8b", b""])
def test_damaged_catalogues_are_told(tmp_path, content):
    (tmp_path / "bad.csv.gz").write_bytes(content)
    with pytest.raises(FileError, match="write them anew"):
        read_catalogue(tmp_path / "bad.csv.gz")


def test_times_of_named_networks_are_learnt_per_image_and_device(tmp_path):
    known = catalogue(tmp_path / "amounts.csv.gz")
    frame = speed_table(tmp_path / "speed.csv", known)
    table = read_table(tmp_path / "speed.csv", tmp_path / "amounts.csv.gz")
    assert [target.name for target in table.targets] == ["board", "phone"]
    phone = frame[frame.bench == "phone"].infer_step_time.to_numpy()
    assert np.allclose(table.target("phone").values, phone / 4)
    wanted = list(jobs(variants(table), [50, 100], 1, ["table"], transfer=20))
    assert [(job.table, job.target) for job in wanted] == [
        ("speed", "board"), ("speed", "phone"), ("speed+families", "board"), ("speed+families", "phone"),
    ]  # fmt: skip
    assert wanted[0].train_size == 160
    runner = Runner(variants(table))
    assert all(runner.run(job)["within_10"] > 0.95 for job in wanted)


def test_networks_that_run_the_same_operations_in_the_same_batches_are_twins(tmp_path):
    known = catalogue(tmp_path / "amounts.csv.gz", 60)
    copies = {(f"copy_{model}", size): row for (model, size), row in known.items()}
    write_catalogue(tmp_path / "amounts.csv.gz", known | copies)
    speed_table(tmp_path / "speed.csv", known | copies)
    table = read_table(tmp_path / "speed.csv", tmp_path / "amounts.csv.gz")
    floor = noise_floor(table, table.target("phone"))
    assert floor is not None
    assert floor.pairs == 60
    assert floor.mape[0] < 0.008 < 1.3 * floor.mape[1]


def test_no_network_that_is_tested_has_a_relative_that_trains(tmp_path):
    known = catalogue(tmp_path / "amounts.csv.gz")
    speed_table(tmp_path / "speed.csv", known)
    table = variants(read_table(tmp_path / "speed.csv", tmp_path / "amounts.csv.gz"))[1]
    target = table.target("phone")
    trained = set()
    for seed in range(4):
        train, test = parts(table, target, seed, 0)
        kin = [{table.families[target.rows[place]] for place in part} for part in (train, test)]
        assert not kin[0] & kin[1]
        assert len(kin[1]) == round(0.2 * len(kin[0] | kin[1]))
        assert len(train) + len(test) == len(target.rows)
        trained.add(tuple(train))
    assert len(trained) == 4
    assert family("convnextv2_tiny") == "convnextv"
    assert family("3d_net") == "3d_net"


def test_unknown_names_missing_times_and_sizes_are_counted_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.predictors.tables.models.catalogue.timm_module", lambda: None)
    known = catalogue(tmp_path / "amounts.csv.gz", 40)
    frame = speed_table(tmp_path / "speed.csv", known)
    frame.loc[0, "model"] = "nobody_knows"
    frame.loc[2, "infer_step_time"] = np.nan
    frame.loc[4, "infer_step_time"] = -1
    frame.loc[6, "infer_img_size"] = np.nan
    frame.to_csv(tmp_path / "speed.csv", index=False)
    table = read_table(tmp_path / "speed.csv", tmp_path / "amounts.csv.gz")
    assert len(table.target("phone").rows) == 36
    assert len(table.target("board").rows) == 40
    assert any(
        "2 networks that neither the amounts nor timm know" in note and "nobody_knows at 224" in note for note in table.notes
    )
    assert "speed: 2 rows without phone are left out for it" in table.notes
    with pytest.raises(UsageError, match="none is known; install timm"):
        read_table(tmp_path / "speed.csv", catalogue_of_others(tmp_path))


def catalogue_of_others(folder):
    write_catalogue(folder / "others.csv.gz", {("other", 32): np.ones(len(NAMES))})
    return folder / "others.csv.gz"


def test_timm_builds_what_no_file_knows():
    from timm_models import timm

    found = traced(timm, "resnet18", 64)
    assert found is not None
    macs = sum(value for name, value in zip(NAMES, found, strict=True) if name.endswith(".macs"))
    assert macs == pytest.approx(module_cost(timm.create_model("resnet18"), (torch.zeros(1, 3, 64, 64),)).macs)
    assert traced(timm, "vit_tiny_patch16_224", 96) is not None
    assert traced(timm, "no_such_network", 64) is None
