"""Tables of results as search spaces: how they are read, and what their members are."""

from __future__ import annotations

import gzip
import itertools
import json
import random

import numpy as np
import pytest
from chain_table import HEADER, chain_rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import FileError, SpaceError
from nas.search.table_runs import play
from nas.search.table_space import TableSpace
from nas.search.table_tasks import FASTEST, tasks
from nas.search.tables import read_tables


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "chain.csv.gz", HEADER, chain_rows(), gzip.open)
    return tmp_path


def cell_space():
    genes = np.array(list(itertools.product(range(5), repeat=3)))
    return TableSpace("cell", ("e01", "e02", "e12"), genes)


def scattered_space():
    genes = np.random.default_rng(0).integers(0, 4, (60, 7)) * 2 + 1
    return TableSpace("scattered", tuple(f"k{i}" for i in range(7)), np.unique(genes, axis=0))


def test_columns_are_found_from_the_header(folder):
    (table,), notes = read_tables(folder)
    assert table.gene_names == ("b0", "b1", "b2", "b3", "b4")
    assert list(table.accuracies) == ["mean_acc"]
    assert list(table.latencies) == ["phone_1"]
    assert table.latencies["phone_1"][0] == pytest.approx(1e-3)
    assert len(table.seeds["acc"]) == 3
    assert list(table.sizes) == ["params"]
    assert notes == []


def test_tables_of_the_same_genes_are_joined_on_them(tmp_path):
    rows = [[i, *genes, 50 + i, i + 1] for i, genes in enumerate(itertools.product(range(2), repeat=4))]
    write(tmp_path / "net_accuracy.csv", "id,b0,b1,b2,b3,c10_test", [row[:-1] for row in rows])
    write(tmp_path / "net_latency.csv", "id,b0,b1,b2,b3,board", [[*row[:5], row[6]] for row in reversed(rows[:-1])])
    (table,), _ = read_tables(tmp_path)
    assert table.name == "net"
    for genes, accuracy, latency in zip(table.genes, table.accuracies["c10_test"], table.latencies["board"], strict=True):
        row = next(row for row in rows if row[1:5] == genes.tolist())
        assert accuracy == row[5]
        assert latency == pytest.approx(1e-3 * row[6]) if row is not rows[-1] else np.isnan(latency)


def test_rows_that_are_spread_over_files_are_all_kept(tmp_path):
    rows = chain_rows()
    write(tmp_path / "whole.csv", HEADER, rows)
    (whole,), _ = read_tables(tmp_path)
    (tmp_path / "whole.csv").unlink()
    write(tmp_path / "part_a.csv", HEADER, rows[:100])
    write(tmp_path / "part_b.csv", HEADER, rows[90:])
    (table,), _ = read_tables(tmp_path)
    assert [*table.seeds, len(table.seeds["acc"])] == ["acc", 3]
    for kind in ("accuracies", "latencies", "sizes", "seed_columns"):
        assert list(getattr(table, kind)) == list(getattr(whole, kind))
        for name, column in getattr(whole, kind).items():
            np.testing.assert_array_equal(getattr(table, kind)[name], column)


def test_training_seeds_may_come_from_several_files(tmp_path):
    rows = chain_rows()
    for seed in range(3):
        write(tmp_path / f"net_{seed}.csv", f"id,b0,b1,b2,b3,b4,acc{seed}", [[*row[:6], row[6 + seed]] for row in rows])
    (table,), _ = read_tables(tmp_path)
    np.testing.assert_allclose(np.array(table.seeds["acc"]).T, [row[6:9] for row in rows])


def test_files_that_disagree_about_a_value_are_refused_in_one_line(tmp_path):
    rows = chain_rows()
    write(tmp_path / "part_a.csv", HEADER, rows)
    rows[5][10] += 1
    write(tmp_path / "part_b.csv", HEADER, rows)
    with pytest.raises(FileError, match="disagree about phone_1 in 1 rows, first in that of the genes 0, 0, 0, 1, 2; keep one"):
        read_tables(tmp_path)


def test_speeds_are_known_anywhere_in_a_name_and_energy_and_epochs_are_no_latencies(tmp_path):
    rows = [[*row[:6], row[9], row[10], 2.0 * row[10], 50 + row[1], row[10] / 3] for row in chain_rows()]
    write(tmp_path / "mixed.csv", "id,b0,b1,b2,b3,b4,acc,a100_throughput,energy_mj,epochs,phone_power_w", rows)
    (table,), _ = read_tables(tmp_path)
    assert list(table.latencies) == ["a100_throughput"]
    assert table.latencies["a100_throughput"][0] == 1.0


def test_rows_without_genes_are_left_out_with_a_note(tmp_path):
    rows = chain_rows()
    rows[3][2] = None
    write(tmp_path / "holes.csv", HEADER, rows)
    (table,), notes = read_tables(tmp_path)
    assert len(table.genes) == len(rows) - 1
    assert notes == ["holes: 1 rows left out, with no genes or with those of an earlier row"]


@pytest.mark.parametrize("content", [None, "", "a,b\nx,y\n", "id,b0,b1,b2,b3,acc\n1,0,1,0,1,90\n"])
def test_folders_without_a_table_to_search_are_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "some.csv").write_text(content)
    with pytest.raises(FileError) as refused:
        read_tables(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_table_with_too_few_genes_is_refused(tmp_path):
    write(tmp_path / "one.csv", "id,b0,c10_test", [[i, i % 3, 90 + i] for i in range(20)])
    with pytest.raises(FileError, match="begins with at least 4 columns of genes and has results"):
        read_tables(tmp_path)


def test_columns_without_numbers_are_left_out_with_a_note(tmp_path):
    rows = [[*row[:6], "inf", None, 1.0, row[10] if i % 2 else "inf"] for i, row in enumerate(chain_rows())]
    write(tmp_path / "holes.csv", "arch_idx,b0,b1,b2,b3,b4,val_acc,test_acc,top1,board", rows)
    (table,), notes = read_tables(tmp_path)
    assert list(table.accuracies) == ["top1"]
    assert np.isnan(table.latencies["board"]).sum() == (len(rows) + 1) // 2
    assert notes == [f"holes: column {name} left out, as it holds no numbers" for name in ("val_acc", "test_acc")]


def test_tasks_without_an_optimum_are_left_out(tmp_path):
    rows = [[*row[:6], None if row[10] <= 6 else row[9], row[10], 7.0] for row in chain_rows()]
    write(tmp_path / "gap.csv", "arch_idx,b0,b1,b2,b3,b4,acc,board,flat", rows)
    names = [task.name for task in tasks(read_tables(tmp_path)[0], (0.1, 0.9))]
    assert names == [
        "gap best acc", "gap best acc board q0.9", "gap best acc flat q0.1", "gap best acc flat q0.9", "gap front acc board",
    ]  # fmt: skip


def test_in_a_table_without_accuracies_the_fastest_row_is_looked_for(tmp_path):
    write(tmp_path / "fast.csv", "arch_idx,b0,b1,b2,b3,b4,board", [[*row[:6], row[10] + row[0] / 1e4] for row in chain_rows()])
    (task,) = tasks(read_tables(tmp_path)[0], (0.25,))
    run = play(task, "bo", 0, 40)
    assert (task.kind, task.optimum) == (FASTEST, pytest.approx(1e-3))
    assert task.reached(run.curve[-1])
    assert list(run.curve) == sorted(run.curve, reverse=True)


def test_a_truncated_file_is_refused(folder):
    path = folder / "chain.csv.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match="cannot read the table"):
        read_tables(folder)


@pytest.mark.parametrize("space", [cell_space(), scattered_space()], ids=lambda space: space.name)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_members_of_a_table_survive_coding_and_changes_stay_inside(space, seed):
    rng = random.Random(seed)
    first, second = space.sample(rng), space.sample(rng)
    assert space.from_json(first.to_json()) == first
    assert space.decode(space.encode(first)) == first
    assert space.mutate(first, rng) != first
    assert space.crossover(first, first, rng) == first
    child = space.crossover(first, second, rng)
    assert child.choices in {space.row(i).choices for i in range(space.size())}
    near = list(space.neighbours(first))
    assert first not in near
    assert len({row.digest for row in near}) == len(near)


def test_a_genotype_that_is_no_row_stands_for_the_nearest():
    space = scattered_space()
    rows = np.array([space.row(i).choices for i in range(space.size())])
    rng = np.random.default_rng(1)
    for _ in range(20):
        wanted = [gene.choices[rng.integers(len(gene.choices))] for gene in space.genes]
        got = space.decode(dict(zip((gene.name for gene in space.genes), wanted, strict=True)))
        reach = np.array([len(gene.choices) - 1 for gene in space.genes])
        distances = (np.abs(rows - np.array(wanted)) / 2 / reach).sum(axis=1)
        assert distances[got.index] == pytest.approx(distances.min())


def test_of_equally_near_rows_the_first_is_meant():
    genes = np.array([[1, 1, 1, 1], [3, 1, 1, 1], [1, 3, 1, 1], [5, 5, 5, 5]])
    space = TableSpace("ties", tuple("abcd"), genes)
    assert space.decode({"a": 3, "b": 3, "c": 1, "d": 1}).index == 1
    assert space.decode({"a": 5, "b": 3, "c": 5, "d": 5}).index == 3


def test_the_graph_of_a_cell_holds_what_a_path_uses():
    space = cell_space()
    dead = space.decode({"e01": "nor_conv_3x3", "e02": "skip_connect", "e12": "none"})
    assert sorted(operator for _, operator in space.graph(dead).nodes(data="operator")) == ["input", "output", "skip_connect"]
    alive = space.decode({"e01": "nor_conv_3x3", "e02": "none", "e12": "avg_pool_3x3"})
    assert list(space.graph(alive).edges) == [("input", (0, 1)), ((0, 1), (1, 2)), ((1, 2), "output")]


def test_a_row_of_another_table_is_refused():
    with pytest.raises(SpaceError, match="not a row of table 'cell'"):
        cell_space().from_json(json.dumps({"format": "nas-table-row", "choices": [1, 2]}))
