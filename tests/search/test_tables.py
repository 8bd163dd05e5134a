from __future__ import annotations

import gzip
import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import FileError, NasError, SpaceError
from nas.results.bench_search import summarise, write_files
from nas.search import model_strategy, strategy, table_runs
from nas.search.archive import MEMORY, Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.table_runs import Results, fingerprint, open_runs, play, run_key
from nas.search.table_space import TableSpace
from nas.search.table_tasks import FASTEST, FRONT, NOISY, TableEvaluator, tasks
from nas.search.tables import read_tables
from nas.search.types import FAILED


def chain_rows():
    """Five layers of three kinds; accuracy and latency grow with their sum, accuracy not quite."""
    rows = []
    for number, genes in enumerate(itertools.product(range(3), repeat=5)):
        noise = random.Random(number).gauss(0.0, 0.1)
        accuracy = 60 + 3 * sum(genes) - genes[0] * genes[4] + noise
        rows.append(
            [
                number,
                *genes,
                *(round(accuracy + s, 4) for s in (0.0, 0.05, -0.05)),
                accuracy,
                1 + sum(genes),
                100 * sum(genes) + 5,
            ]
        )
    return rows


HEADER = "arch_idx,b0,b1,b2,b3,b4,acc0,acc1,acc2,mean_acc,phone_1,params"


def write(path, header, rows, opener=open):
    with opener(path, "wt") as file:
        file.write("\n".join([header, *(",".join("" if v is None else str(v) for v in row) for row in rows)]) + "\n")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "chain.csv.gz", HEADER, chain_rows(), gzip.open)
    return tmp_path


@pytest.fixture
def found(folder):
    return {task.name: task for task in tasks(read_tables(folder)[0], (0.25,))}


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


def test_tasks_know_their_optimum(found):
    task = found["chain best mean_acc phone_1 q0.25"]
    rows = [row for row in chain_rows() if 1e-3 * row[10] <= task.limit]
    assert task.optimum == pytest.approx(max(row[9] for row in rows))
    assert set(found) == {"chain best mean_acc", task.name, "chain noisy acc", "chain front mean_acc phone_1"}


@pytest.mark.parametrize("name", ["random", "local_search", "evolution", "nsga2", "nsga3", "bo", "surrogate"])
def test_strategies_stay_within_the_budget_of_a_table_and_never_repeat(found, name):
    task = found["chain best mean_acc phone_1 q0.25"]
    problem = task.problem()
    with Archive(MEMORY, task.space, problem.objectives, problem.budgets) as archive:
        executor = LocalExecutor(TableEvaluator(task, 0, archive))
        run_search(problem, strategy.create(name, problem, 0), archive, executor, evaluations=30)
        trials = archive.trials()
    assert len({trial.architecture.digest for trial in trials}) == 30
    assert all(trial.metrics["latency"] <= task.limit for trial in trials)


def test_a_run_is_the_same_when_it_is_played_again(found):
    for task in found.values():
        assert play(task, "bo", 3, 16) == play(task, "bo", 3, 16)


def test_bayesian_optimisation_finds_the_optimum_of_a_small_table(found):
    run = play(found["chain best mean_acc"], "bo", 0, 40)
    assert found["chain best mean_acc"].reached(run.curve[-1])
    assert run.duplicates == 0


def test_under_noise_repeats_are_spent_and_counted_apart(found):
    task = next(task for task in found.values() if task.kind == NOISY)
    run = play(task, "bo", 0, 30)
    assert run.repeats > 0
    assert run.duplicates == 0
    assert play(task, "random", 0, 30).repeats == 0


def test_under_noise_what_is_recommended_is_better_than_what_was_luckiest(tmp_path):
    rng = random.Random(0)
    rows = []
    for number, genes in enumerate(itertools.product((1, 3, 5), repeat=5)):
        value = 60 + sum(genes)
        rows.append([number, *genes, *(round(value + rng.gauss(0, 4), 3) for _ in range(3)), value])
    write(tmp_path / "noise.csv", "arch_idx,b0,b1,b2,b3,b4,acc0,acc1,acc2,macs", rows)
    (task,) = tasks(read_tables(tmp_path)[0], ())
    regrets = {
        name: np.mean([task.optimum - play(task, name, seed, 40).curve[-1] for seed in range(8)]) for name in ("bo", "random")
    }
    assert regrets["bo"] < regrets["random"] - 2.0


def test_a_front_is_found_sooner_than_by_luck(tmp_path):
    rows = []
    for number, genes in enumerate(itertools.product((1, 3, 5), repeat=7)):
        depth = sum(genes)
        accuracy = 60 + 10 * (1 - np.exp(-depth / 12)) + 0.3 * genes[2] - 0.04 * genes[0] * genes[6]
        rows.append([number, *genes, round(accuracy, 4), 1 + depth + 0.7 * genes[0] + genes[6] / 2])
    write(tmp_path / "deep.csv", "arch_idx,b0,b1,b2,b3,b4,b5,b6,top1_acc,board", rows)
    task = next(task for task in tasks(read_tables(tmp_path)[0], ()) if task.kind == FRONT)
    curves = {name: [play(task, name, seed, 30).curve for seed in range(4)] for name in ("bo", "random")}
    assert all(list(curve) == sorted(curve) for curve in curves["bo"])
    share = {name: np.mean([task.fraction(curve[-1]) for curve in some]) for name, some in curves.items()}
    assert share["random"] + 0.1 < share["bo"] <= 1.0 + 1e-9


def test_rows_without_a_value_are_failed_trials_and_never_best(tmp_path):
    rows = chain_rows()
    for row in rows[::2]:
        row[9] = None
    write(tmp_path / "half.csv", HEADER, rows)
    task = next(tasks(read_tables(tmp_path)[0], ()))
    run = play(task, "random", 0, 30)
    assert 5 < run.failed < 25
    assert run.curve[-1] <= task.optimum
    problem = task.problem()
    with Archive(MEMORY, task.space, problem.objectives) as archive:
        executor = LocalExecutor(TableEvaluator(task, 0, archive))
        run_search(problem, strategy.create("random", problem, 0), archive, executor, evaluations=10)
        assert any(trial.state == FAILED and "has no mean_acc" in trial.error for trial in archive.trials())


def test_rows_that_lack_a_training_seed_are_failed_trials_and_never_judged(tmp_path):
    rows = chain_rows()
    for row in rows[::2]:
        row[6] = row[8] = None
    write(tmp_path / "half.csv", HEADER, rows)
    task = next(task for task in tasks(read_tables(tmp_path)[0], ()) if task.kind == NOISY)
    for name in ("local_search", "bo"):
        run = play(task, name, 0, 30)
        assert run.failed > 0
        assert np.isfinite(run.curve[9:]).all()
    with (
        Archive(MEMORY, task.space) as archive,
        pytest.raises(NasError, match="row 0 of table 'half' has not every seed of acc"),
    ):
        TableEvaluator(task, 0, archive)(task.space.row(0).to_json())


def test_a_run_that_finds_no_row_within_the_budget_has_found_nothing(tmp_path):
    genes = list(itertools.product((1, 3, 5), repeat=6))
    rows = [[number, *one, 60 + sum(one), 1 if set(one) == {5} else 9] for number, one in enumerate(genes)]
    write(tmp_path / "needle.csv", "arch_idx,b0,b1,b2,b3,b4,b5,top1_acc,phone", rows)
    task = next(task for task in tasks(read_tables(tmp_path)[0], (1 / len(rows),)) if task.limit is not None)
    assert task.legal.sum() == 1
    run = play(task, "random", 0, 5)
    assert np.isnan(run.curve).tolist() == [True] * 5
    known = Results(None)
    known.add(run)
    (row,) = summarise([task], ["random"], range(1), 5, known)
    assert (row.fraction_of_optimum, row.reached, row.to_mapping()["best"]) == (0.0, 0.0, None)
    write_files(tmp_path / "out", [task], ["random"], range(1), 5, known, [row])


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("scattered", [False, True])
def test_rows_without_a_latency_are_no_candidates_of_a_model_on_a_front(tmp_path, devices, scattered):
    rows = []
    for number, genes in enumerate(itertools.product((1, 3, 5), repeat=6)):
        depth = sum(genes)
        phone = None if depth % 5 == 0 else 1 + depth + 0.7 * genes[0]
        rows.append([number, *genes, 60 + depth - 0.1 * genes[0] * genes[5], phone, 50 - depth + genes[1]][: 8 + devices])
    header = ["arch_idx", "b0", "b1", "b2", "b3", "b4", "b5", "top1_acc", "phone", "board"][: 8 + devices]
    write(tmp_path / "gaps.csv", ",".join(header), random.Random(0).sample(rows, 300) if scattered else rows)
    task = [task for task in tasks(read_tables(tmp_path)[0], ()) if task.kind == FRONT][-1]
    assert (len(task.devices), task.space.dense) == (devices, not scattered)
    problem, number = task.problem(), itertools.count()
    found = strategy.create("bo", problem, 0)
    with Archive(MEMORY, task.space, problem.objectives) as archive:
        executor = LocalExecutor(TableEvaluator(task, 0, archive))
        run_search(problem, found, archive, executor, evaluations=40)
        failed = [trial.number for trial in archive.trials() if trial.failed]
        first = next(n for n in number if sum(trial.complete for trial in archive.trials()[:n]) == model_strategy.STARTUP)
    assert failed, "draws before there is a model meet them"
    assert max(failed) < first


def test_results_survive_a_torn_last_line(found, tmp_path):
    path, task = tmp_path / "runs.jsonl", found["chain best mean_acc"]
    results = Results(path)
    for seed in (0, 1):
        results.add(play(task, "random", seed, 5))
    path.write_bytes(path.read_bytes()[:-20])
    again = Results(path)
    assert list(again.runs) == [run_key(task, "random", 0, 5)]
    again.add(results.runs[run_key(task, "random", 1, 5)])
    assert Results(path).runs == results.runs


def test_a_run_is_known_by_what_its_task_sees_of_the_table_and_by_the_revision_of_the_strategies(tmp_path, monkeypatch):
    def only(rows):
        write(tmp_path / "chain.csv", HEADER, rows)
        return {task.name: task for task in tasks(read_tables(tmp_path)[0], (0.25,))}

    before = only(chain_rows())
    rows = chain_rows()
    rows[-1][10] += 1
    after = only(rows)
    changed = {name for name in before if fingerprint(before[name], "random") != fingerprint(after[name], "random")}
    assert changed == {name for name in before if "phone_1" in name}
    name, free = "chain best mean_acc phone_1 q0.25", "chain best mean_acc"
    results = Results(tmp_path / "runs.jsonl")
    for task in (before[name], before[free]):
        results.add(play(task, "random", 0, 5))
    known = Results(tmp_path / "runs.jsonl")
    assert [task.name for task, _, _ in open_runs([after[name], after[free]], ["random"], [0], 5, known)] == [name]
    assert known.outdated(after[name], "random", 0, 5)
    assert not known.outdated(after[name], "random", 1, 5)
    assert not known.outdated(after[free], "random", 0, 5)
    known.add(play(after[name], "random", 0, 5))
    assert not list(open_runs([after[name], after[free]], ["random"], [0], 5, Results(tmp_path / "runs.jsonl")))
    monkeypatch.setattr(table_runs, "REVISION", table_runs.REVISION + 1)
    assert known.outdated(after[free], "random", 0, 5)


def test_runs_of_a_strategy_that_was_revised_are_outdated_and_no_others(tmp_path, monkeypatch):
    write(tmp_path / "chain.csv", HEADER, chain_rows())
    task = next(iter(tasks(read_tables(tmp_path)[0], ())))
    results = Results(tmp_path / "runs.jsonl")
    for name in ("random", "bo"):
        results.add(play(task, name, 0, 3))
    known = strategy.revision
    monkeypatch.setattr(strategy, "revision", lambda name: known(name) + (name == "bo"))
    assert results.outdated(task, "bo", 0, 3)
    assert not results.outdated(task, "random", 0, 3)


def test_two_devices_that_agree_least_make_a_front_of_three_objectives(tmp_path):
    """The second phone is as the first, the third slow where the first is quick."""
    rows = [[*row, 2 * row[10], 40 - row[10] + row[2]] for row in chain_rows()]
    write(tmp_path / "chain.csv", f"{HEADER},phone_2,phone_3", rows)
    (task,) = [task for task in tasks(read_tables(tmp_path)[0], ()) if task.other]
    assert set(task.devices) in ({"phone_1", "phone_3"}, {"phone_2", "phone_3"})
    problem = task.problem()
    assert problem.objectives == ("accuracy", *(f"latency@{device}" for device in task.devices))
    row = task.space.row(100)
    assert [problem.cheap(row)[name] for name in problem.objectives[1:]] == [
        task.table.latencies[device][100] for device in task.devices
    ]
    whole = play(task, "random", 0, len(rows))
    assert whole.curve[-1] == pytest.approx(task.optimum)
    assert whole.curve[0] < 0.9 * task.optimum
    assert list(whole.curve) == sorted(whole.curve)


def test_bayesian_search_fills_a_front_of_three_objectives_sooner_than_chance(tmp_path):
    rows = [[*row, 40 - row[10] + row[2]] for row in chain_rows()]
    write(tmp_path / "chain.csv", f"{HEADER},phone_3", rows)
    (task,) = [task for task in tasks(read_tables(tmp_path)[0], ()) if task.other]
    shares = {
        name: np.mean([play(task, name, seed, 40).curve[-1] / task.optimum for seed in (0, 1)]) for name in ("bo", "random")
    }
    assert shares["bo"] > shares["random"] + 0.03
