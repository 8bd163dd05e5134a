"""Strategies played on tables of results, and the runs that are kept."""

from __future__ import annotations

import gzip
import itertools
import random

import numpy as np
import pytest
from chain_table import HEADER, chain_rows, write

from nas.errors import NasError
from nas.results.bench_search import summarise, write_files
from nas.search import model_strategy, strategy, table_runs
from nas.search.archive import MEMORY, Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.table_runs import Results, fingerprint, open_runs, play, run_key
from nas.search.table_tasks import FRONT, NOISY, TableEvaluator, tasks
from nas.search.tables import read_tables
from nas.search.types import FAILED


@pytest.fixture
def found(tmp_path):
    """The tasks of the chain's table, by name."""
    write(tmp_path / "chain.csv.gz", HEADER, chain_rows(), gzip.open)
    return {task.name: task for task in tasks(read_tables(tmp_path)[0], (0.25,))}


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
