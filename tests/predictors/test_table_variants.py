"""Noise floors, proxies joined by architecture, and kinships that are left out whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.predictors.surrogates import Layout, surrogate
from nas.predictors.surrogates.base import split_folds
from nas.predictors.surrogates.layout import PROXIES, SUMMARY
from nas.predictors.tables import Table, Target, read_table, variants
from nas.predictors.tables.benchmark import Runner, jobs
from nas.predictors.tables.noise import noise_floor
from nas.predictors.tables.structures import structure_of

EDGES = ["e01", "e02", "e12", "e03", "e13", "e23"]


def repeated(noise, number=4000):
    """A device that measured each of `number` networks twice, in no order."""
    rng = np.random.default_rng(0)
    order = rng.permutation(2 * number)
    twins = np.repeat(np.arange(number), 2)[order]
    values = np.repeat(rng.lognormal(0, 1, number), 2)[order] * np.exp(noise(rng, 2 * number))
    target = Target("phone", "time", np.arange(2 * number), values)
    return Table("t", np.zeros((2 * number, 1)), Layout.whole(1), (target,), (), twins), target


def gaussian(rng, n):
    return 0.06 * rng.standard_normal(n)


def outliers(rng, n):
    return 0.4 * (rng.random(n) < 0.03)


@pytest.mark.parametrize(("noise", "upper"), [(gaussian, 1), (outliers, 0)])
def test_the_floor_is_what_an_oracle_scores(noise, upper):
    table, target = repeated(noise)
    error = np.abs(noise(np.random.default_rng(1), 10**5))
    floor = noise_floor(table, target)
    assert floor.pairs == 4000
    assert floor.mape[upper] == pytest.approx(error.mean(), rel=0.06)
    assert min(abs(share - (error <= 0.1).mean()) for share in floor.within_10) < 0.01


def test_there_is_no_floor_without_enough_pairs_nor_for_accuracies():
    table, target = repeated(gaussian, 9)
    assert noise_floor(table, target) is None
    table, target = repeated(gaussian, 40)
    assert noise_floor(table, Target("top1", "accuracy", target.rows, target.values)) is None


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_cells_are_twins_when_only_their_inner_nodes_are_numbered_otherwise(ops):
    e01, e02, e12, e03, e13, e23 = ops
    rows = np.array([ops, [e02, e01, e12, e03, e23, e13], [e01, e02, e12, e03, e13, (e23 + 1) % 5], [4] * 6])
    twins = structure_of(EDGES).encode({name: rows[:, i].astype(float) for i, name in enumerate(EDGES)}, {}).twins
    same = e12 == 0 or (e01 == e02 and e13 == e23)
    assert (twins[0] == twins[1]) == same
    assert twins[0] != twins[2] or (e12 == 0 and e01 == e02 and e13 == (e23 + 1) % 5 and e23 == e13)


def folder_of_proxies(path, number=450, datasets=("cifar10",)):
    """Cells in one table; in another a proxy that tells their accuracy, by number alone and in another order."""
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 5, (number, 6))
    cells = pd.DataFrame(codes, columns=EDGES)
    cells.insert(0, "arch_idx", range(number))
    cells["c10_test"] = codes.sum(1) * 1.0
    cells.to_csv(path / "nb_accuracy.csv", index=False)
    secret = rng.standard_normal(number)
    parts = []
    for dataset in datasets:
        order = rng.permutation(number)
        part = pd.DataFrame({"dataset": dataset, "arch_idx": order, "flops": rng.random(number)})
        part["val_accuracy"] = 80 + 5 * secret[order]
        part["synflow"], part["snip"] = np.exp(3 * secret[order]), rng.random(number)
        parts.append(part)
    pd.concat(parts).to_csv(path / "nb_zero_cost.csv", index=False)
    return path / "nb_zero_cost.csv"


def test_proxies_are_joined_by_architecture_and_judged_on_the_same_rows(tmp_path):
    without, known = variants(read_table(folder_of_proxies(tmp_path)))
    assert (without.name, known.name) == ("nb_zero_cost", "nb_zero_cost+proxies")
    assert dict(known.layout.widths)[PROXIES] == 3
    assert PROXIES not in without.layout.names
    assert known.features.shape[1] == known.layout.width
    wanted = list(jobs([without, known], [100, 200, 300], 1, ["boosting"]))
    assert [(job.table, job.train_size) for job in wanted] == [
        ("nb_zero_cost", 100), ("nb_zero_cost+proxies", 100), ("nb_zero_cost", 200), ("nb_zero_cost+proxies", 200),
    ]  # fmt: skip
    plain, helped = (Runner([without, known]).run(job)["kendall"] for job in wanted[2:])
    assert plain < 0.3
    assert helped > 0.7


def test_each_data_set_is_a_target_and_strangers_are_counted(tmp_path):
    path = folder_of_proxies(tmp_path, datasets=("cifar10", "digits"))
    frame = pd.read_csv(path)
    frame.loc[3, "arch_idx"] = 10**6
    frame.to_csv(path, index=False)
    table = read_table(path)
    assert [(one.name, len(one.rows)) for one in table.targets] == [("cifar10_val_accuracy", 449), ("digits_val_accuracy", 450)]
    assert "nb_zero_cost: 1 rows whose arch_idx nothing spells out are left out" in table.notes


def test_proxies_of_architectures_that_nothing_spells_out_are_refused(tmp_path):
    path = folder_of_proxies(tmp_path)
    (tmp_path / "nb_accuracy.csv").rename(tmp_path / "other_accuracy.csv")
    with pytest.raises(UsageError, match="holds no proxies whose arch_idx a table beside it spells out"):
        read_table(path)


@given(st.lists(st.integers(0, 9), min_size=12, max_size=60), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_folds_keep_kin_together(kin, number, seed):
    kin = np.array(kin)
    folds = split_folds(len(kin), number, seed, kin)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(kin)))
    if len(set(kin.tolist())) > 1:
        assert all(len({place for place, fold in enumerate(folds) if name in kin[fold]}) == 1 for name in kin)
    assert all(len(fold) for fold in folds)


def test_intervals_are_honest_about_strangers_once_kin_are_known():
    rng = np.random.default_rng(0)
    kin = np.repeat(np.arange(80), 5)
    features = rng.standard_normal((80, 6))[kin] + 0.01 * rng.standard_normal((400, 6))
    values = np.exp(rng.standard_normal(80)[kin] + 0.01 * rng.standard_normal(400))
    train, test = kin < 50, kin >= 50
    layout = Layout(((SUMMARY, 6),))
    cover = {}
    for name, known in (("known", kin[train]), ("unknown", None)):
        model = surrogate("auto", layout=layout, scale="log").fit(features[train], values[train], known)
        cover[name] = model.assess(features[test], values[test]).coverage_90
    assert cover["known"] > max(0.75, cover["unknown"] + 0.1)
    with pytest.raises(UsageError, match="one number for each of the 250 rows"):
        surrogate("ridge").fit(features[train], values[train], kin)
