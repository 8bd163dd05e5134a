"""Tables are read from their headers alone, and their architectures become features that mean what they say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import FileError, UsageError
from nas.predictors.surrogates.layout import AMOUNTS, COUNTS, LABELS, SUMMARY, join
from nas.predictors.surrogates.residual import TableProcess
from nas.predictors.tables import read_table, roles
from nas.predictors.tables.benchmark import Job, Runner, jobs
from nas.predictors.tables.labels import LabelledGraph, label_counts
from nas.predictors.tables.rows import content_digest
from nas.predictors.tables.structures import structure_names, structure_of

EDGES = ["e01", "e02", "e12", "e03", "e13", "e23"]


def encode(rows, names, sizes=None):
    columns = {name: np.asarray(rows, float)[:, i] for i, name in enumerate(names)}
    return structure_of(names).encode(columns, sizes or {})


def cells(n, seed=0):
    return np.random.default_rng(seed).integers(0, 5, (n, 6))


@pytest.mark.parametrize(
    ("header", "structure", "sizes", "targets"),
    [
        (["arch_idx", *EDGES, "arch_str", "c10_test", "iso_class"], "cells", (), (("c10_test", "accuracy"),)),
        (["arch_idx", *EDGES, "mflops", "mparams", "pixel3", "samsung_a50"], "cells", ("mflops", "mparams"),
         (("pixel3", "time"), ("samsung_a50", "time"))),
        (["b0", "b1", "b2", "acc0", "mean_acc", "params", "flops"], "chain", ("params", "flops"),
         (("acc0", "accuracy"), ("mean_acc", "accuracy"))),
        (["arch_idx", "l00", "l01", "zc_flops", "zc_params", "1080ti_1", "raspi4"], "chain", ("zc_flops", "zc_params"),
         (("1080ti_1", "time"), ("raspi4", "time"))),
        (["arch_idx", "ks00", "ks01", "e00", "e01", "d0", "r", "v100_1"], "elastic", (), (("v100_1", "time"),)),
        (["id", "block0_e", "block0_l", "block1_e", "block1_l", "val_top1", "train_time", "macs", "latency_x_mean",
          "throughput_y_mean", "throughput_y_std"], "blocks", ("macs",),
         (("val_top1", "accuracy"), ("latency_x_mean", "time"), ("throughput_y_mean", "rate"))),
    ],
)  # fmt: skip
def test_columns_are_told_apart_by_the_header(header, structure, sizes, targets):
    whole = [name for name in header if name not in ("pixel3", "raspi4", "1080ti_1", "v100_1", "arch_str")]
    found = roles(header, whole)
    assert (found.sizes, found.targets) == (sizes, targets)
    assert structure_of(found.architecture).name == structure


def test_architecture_columns_that_nothing_reads_are_refused():
    with pytest.raises(UsageError, match="no structure reads the architecture columns x1_abc"):
        structure_of(["x1_abc", "q9"])
    assert structure_names() == ["blocks", "cells", "chain", "elastic"]


def test_cells_are_networks_where_a_path_leads_to_the_output():
    names = ["e01", "e02", "e12"]
    rows = list(itertools.product(range(3), repeat=3))
    found = encode(rows, names)
    assert found.valid.tolist() == [bool(e02 or (e01 and e12)) for e01, e02, e12 in rows]
    assert found.note == f"{sum(not v for v in found.valid)} cells without a path from input to output are left out"


def test_dead_operators_count_among_all_but_not_among_live_ones():
    rows = [[3, 0, 0, 2, 0, 0], [0, 0, 0, 2, 0, 3], [2, 4, 4, 4, 4, 3], [1, 1, 1, 1, 1, 1]]
    found = encode(rows, EDGES)
    every, (live, ahead, behind, _) = found.groups[COUNTS][0], found.groups[AMOUNTS]
    three = 3  # columns: none, skip, 1x1, 3x3, pooling; without none for the others
    assert every[:2, three].tolist() == [1, 1]
    assert live[:2, three - 1].tolist() == [0, 0]
    assert ahead[:2, three - 1].tolist() == [1, 0]  # reached from the input
    assert behind[:2, three - 1].tolist() == [0, 1]  # reaches the output


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5))
@settings(max_examples=40, deadline=None)
def test_cells_that_only_name_their_nodes_otherwise_have_the_same_labels(ops):
    e01, e02, e03, e13, e23 = ops
    rows = [[e01, e02, 0, e03, e13, e23], [e02, e01, 0, e03, e23, e13], *cells(6).tolist()]
    found = encode(rows, EDGES)
    for part in (*found.groups[LABELS], found.groups[SUMMARY][0], found.groups[SUMMARY][1]):
        assert np.array_equal(part[0], part[1])


def test_labels_see_the_neighbours_and_their_direction():
    chain = LabelledGraph(("a", "b", "c"), ((0, 1), (1, 2)))
    back = LabelledGraph(("a", "b", "c"), ((1, 0), (2, 1)))
    same = LabelledGraph(("c", "a", "b"), ((1, 2), (2, 0)))
    flat = label_counts([chain, back, same], 0)
    deep = label_counts([chain, back, same], 1)
    assert np.array_equal(flat[0], flat[1])
    assert np.array_equal(deep[0], deep[2])
    assert not np.array_equal(deep[0], deep[1])
    assert label_counts([chain, back], 1, most=2).shape == (2, 2)


def test_labels_see_successors_that_predecessors_do_not_tell():
    fork = LabelledGraph(("a", "a", "b", "b"), ((0, 2), (0, 3)))
    pairs = LabelledGraph(("a", "a", "b", "b"), ((0, 2), (1, 3)))
    deep = label_counts([fork, pairs], 1)
    assert not np.array_equal(deep[0], deep[1])


def test_size_columns_are_shared_among_the_slots():
    rng = np.random.default_rng(0)
    rows, macs = rng.integers(0, 3, (300, 5)), rng.random((5, 3)) * [0, 1, 2]
    size = macs[np.arange(5), rows].sum(1)
    weighted = encode(rows, [f"l{i}" for i in range(5)], {"macs": 7 + size}).groups[AMOUNTS][0]
    ratio = weighted.sum(1) / size
    assert np.allclose(ratio, ratio[0])
    kind = macs[np.arange(5), rows] * (rows == 2)
    assert np.allclose(weighted[:, 2] / ratio[0], kind.sum(1))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_layers_beyond_the_depth_leave_no_trace(seed):
    rng = np.random.default_rng(seed)
    names = [f"ks{i:02}" for i in range(6)] + [f"e{i:02}" for i in range(6)] + ["d0", "d1", "r"]
    rows = np.concatenate([rng.choice([3, 5, 7], (8, 6)), rng.choice([3, 4, 6], (8, 6)), np.full((8, 2), 2),
                           rng.choice([128, 192], (8, 1))], 1)  # fmt: skip
    other = rows.copy()
    other[0, [2, 5, 8, 11]] = [3, 7, 4, 6]  # the third layer of each stage, which a depth of two leaves out
    features = join(encode(np.concatenate([rows, other]), names).groups)[0]
    assert np.array_equal(features[0], features[8])


def test_more_layers_of_a_block_count_apart_from_its_first():
    names = ["block0_e", "block0_k", "block0_l", "block1_e", "block1_k", "block1_l"]
    rows = np.random.default_rng(0).choice([1, 2, 3], (40, 6))
    found = encode(rows, names)
    layers = found.groups[COUNTS][0].sum(1)
    assert layers.tolist() == (rows[:, 2] + rows[:, 5]).tolist()


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


def latency_frame(n=1000):
    rows = cells(n)
    rows[:, 3] = np.maximum(rows[:, 3], 1)
    counts = (rows[:, :, None] == np.arange(5)).sum(1)
    frame = pd.DataFrame(rows, columns=EDGES)
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal((3, n)))
    frame["phone"] = (1 + counts @ [0, 0.1, 1, 4, 0.5]) * noise[0]
    frame["throughput_gpu"] = 100 / (2 + counts @ [0.1, 0.2, 1, 2, 1.0]) * noise[1]
    frame["board"] = (3 + counts @ [0.3, 0.1, 2, 2, 3.0]) * noise[2]
    frame.insert(0, "arch_idx", range(n))
    return frame


def test_rows_without_a_value_are_left_out_for_that_target_with_a_note(tmp_path):
    frame = latency_frame(20)
    frame.loc[[2, 5], "phone"] = np.nan
    table = read_table(write(tmp_path / "cells.csv.gz", frame))
    assert table.name == "cells"
    assert len(table.target("phone").rows) == 18
    assert len(table.target("board").rows) == 20
    assert table.notes == ("cells: 2 rows without phone are left out for it",)


@pytest.mark.parametrize("gap", ["", "?"])
def test_rows_with_a_gap_in_their_architecture_are_left_out_with_a_note(tmp_path, gap):
    frame = latency_frame(20).astype({"e02": object, "e13": object})
    frame.loc[[2, 5], "e02"] = gap
    frame.loc[5, "e13"] = gap
    table, whole = read_table(write(tmp_path / "cells.csv", frame)), read_table(write(tmp_path / "all.csv", latency_frame(20)))
    assert [one.name for one in table.targets] == ["phone", "throughput_gpu", "board"]
    assert len(table.features) == 18
    assert np.array_equal(table.target("phone").values, np.delete(whole.target("phone").values, [2, 5]))
    assert table.notes == ("cells: 2 rows without e02, e13 are left out",)


def test_a_table_whose_every_row_has_a_gap_in_its_architecture_is_refused(tmp_path):
    frame = latency_frame(6).astype(dict.fromkeys(EDGES[:3], object))
    for place, name in enumerate(EDGES[:3]):
        frame.loc[[2 * place, 2 * place + 1], name] = ""
    with pytest.raises(UsageError, match="no row of table cells has all its architecture columns: e01, e02, e12 have gaps"):
        read_table(write(tmp_path / "cells.csv", frame))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", FileError, "cannot read table"),
        (b"e01,e02,e12,phone\n", FileError, "has no rows"),
        (b"name,phone\nx,1\n", UsageError, "has no architecture columns"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, content, error, words):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_all_training_sizes_are_judged_by_the_same_rows(tmp_path, monkeypatch):
    table = read_table(write(tmp_path / "cells.csv", latency_frame()))
    seen = []
    monkeypatch.setattr(
        "nas.predictors.tables.benchmark._figures",
        lambda job, features, layout, target, train, test, kin: seen.append((train, test)) or {},
    )
    for size in (10, 50):
        Runner([table]).run(Job("cells", "phone", size, 3, "table"))
    order = np.random.default_rng(3).permutation(1000)
    for (train, test), size in zip(seen, (10, 50), strict=True):
        assert np.array_equal(train, order[:size])
        assert np.array_equal(test, order[900:])


def test_the_figures_are_those_of_the_definition(tmp_path):
    table = read_table(write(tmp_path / "cells.csv", latency_frame()))
    runner = Runner([table])
    found = {name: runner.run(Job("cells", name, 100, 0, "table")) for name in ("phone", "throughput_gpu")}
    assert all(row["mape"] < 0.03 and row["spearman"] > 0.95 for row in found.values())
    assert all(0.8 < row["coverage_90"] <= 1 for row in found.values())
    assert list(found["phone"])[:5] == ["table", "target", "train_size", "seed", "method"]


def test_a_device_is_learnt_from_a_few_rows_and_the_other_devices(tmp_path):
    table = read_table(write(tmp_path / "cells.csv", latency_frame()))
    wanted = [job for job in jobs([table], [50], 1, ["table"], transfer=10) if job.method == "transfer"]
    assert [job.target for job in wanted] == ["phone", "throughput_gpu", "board"]
    assert Runner([table]).run(wanted[0])["spearman"] > 0.8


def test_no_row_that_tests_a_device_of_a_small_table_trains_it(tmp_path, monkeypatch):
    table = read_table(write(tmp_path / "cells.csv", latency_frame(320)))
    seen, fitted = [], []
    monkeypatch.setattr(
        "nas.predictors.tables.benchmark._figures",
        lambda job, features, layout, target, train, test, kin: seen.append((train, test)) or {},
    )
    fit = TableProcess.fit
    monkeypatch.setattr(
        TableProcess, "fit", lambda self, features, *rest: fitted.append(features) or fit(self, features, *rest)
    )
    (*_, job) = jobs([table], [50], 1, ["table"], transfer=20)
    Runner([table]).run(job)
    ((train, test),) = seen
    assert not set(train) & set(test)
    order = np.random.default_rng(0).permutation(320)
    assert [len(train), len(test), len(fitted)] == [20, 120, 2]
    assert all(np.array_equal(features, table.features[order[:200]]) for features in fitted)


def test_a_device_that_leaves_no_rows_to_test_is_not_learnt_from_the_others(tmp_path):
    table = read_table(write(tmp_path / "cells.csv", latency_frame(150)))
    assert list(jobs([table], [50], 1, ["table"], transfer=20)) == []


def test_the_digest_of_a_table_sees_what_it_holds_and_not_the_last_bits(tmp_path):
    table = read_table(write(tmp_path / "cells.csv", latency_frame(320)))
    phone = table.target("phone")
    digest = content_digest(table, [phone])
    assert content_digest(replace(table, features=table.features * (1 + 1e-15)), [phone]) == digest
    other = table.features.copy()
    other[7, 0] += 1
    assert content_digest(replace(table, features=other), [phone]) != digest
    assert content_digest(replace(table, features=table.features[::-1]), [phone]) != digest
    assert content_digest(table, [replace(phone, values=phone.values * 1.01)]) != digest
    assert content_digest(table, [table.target("board")]) != digest


def test_training_sizes_that_reach_into_the_test_part_are_refused():
    with pytest.raises(UsageError, match="between 5 and 900, got 901"):
        list(jobs([], [50, 901], 1, ["table"]))
