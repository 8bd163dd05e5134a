"""`nas bench search`: what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import csv
import itertools
import json

import pytest

FIELDS = {
    "table", "objective", "budget", "strategy", "seeds", "evaluations", "best", "fraction_of_optimum",
    "median_evaluations_to_target", "duplicates",
}  # fmt: skip


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    rows = [
        [i, *genes, 80 + sum(genes) + genes[0] * genes[1], 1 + sum(genes)]
        for i, genes in enumerate(itertools.product(range(3), repeat=4))
    ]
    with (folder / "toy.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arch_idx", "b0", "b1", "b2", "b3", "c10_test", "phone"], *rows])
    return folder


def test_it_reports_each_task_and_goes_on_from_what_is_stored(nas, tables, tmp_path):
    command = ["bench", "search", "--tables", tables, "--strategies", "random,bo", "--seeds", "2", "--evaluations", "12"]
    out = tmp_path / "out"
    first = nas(*command, "--out", out, "--json")
    assert first.returncode == 0, first.stderr
    rows = json.loads(first.stdout)
    assert all(row.keys() >= FIELDS and row["duplicates"] == 0 and row["seeds"] == 2 for row in rows)
    assert {(row["strategy"], row["kind"]) for row in rows} == {(s, k) for s in ("random", "bo") for k in ("best", "front")}
    assert len({row["budget"] for row in rows}) == 4
    lines = (out / "runs.jsonl").read_text().splitlines(keepends=True)
    (out / "runs.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    again = nas(*command, "--out", out, "--json")
    assert json.loads(again.stdout) == rows
    assert sorted((out / "runs.jsonl").read_text().splitlines(keepends=True)) == sorted(lines)
    assert len(list((out / "plots").glob("*.svg"))) == 5
    assert len((out / "curves.csv").read_text().splitlines()) == 1 + 5 * 2 * 12


def test_runs_of_another_table_are_played_again_and_the_reader_is_told(nas, tables, tmp_path):
    command = ["bench", "search", "--tables", tables, "--strategies", "random", "--seeds", "1", "--evaluations", "8"]
    command += ["--quantiles", ",", "--kinds", "best", "--out", tmp_path / "out", "--json"]
    first = nas(*command)
    assert "taken for latencies: phone" in first.stderr
    assert "played again" not in first.stderr
    path = tables / "toy.csv"
    path.write_text(path.read_text().replace(",80,", ",95,", 1))
    second = nas(*command)
    assert "1 stored runs are of another table, or of strategies before a change: they are played again" in second.stderr
    assert json.loads(second.stdout)[0]["optimum"] == 95.0
    assert len((tmp_path / "out" / "runs.jsonl").read_text().splitlines()) == 2
    assert json.loads(second.stdout)[0]["best_interval"] is None


def test_columns_are_as_wide_as_the_names_of_a_table(nas, tables):
    header = (tables / "toy.csv").read_text().replace("phone", "latency_of_a_phone_with_a_long_name")
    (tables / "toy.csv").write_text(header)
    found = nas("bench", "search", "--tables", tables, "--strategies", "random", "--seeds", "1", "--evaluations", "4")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert len({len(line) for line in lines}) == 1
    start = lines[0].index("strategy")
    assert all(line[start - 2 :].startswith("  random ") for line in lines[1:])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--strategies", "evolutoin"], 2, "Did you mean 'evolution'"),
        (["--strategies", " , "], 2, "no strategy is named"),
        (["--quantiles", "0,2"], 2, "quantiles are shares above 0"),
        (["--kinds", "worst"], 2, "unknown kind of task 'worst'"),
        (["--only", "elsewhere"], 2, "no task is left"),
        (["--tables", "nowhere"], 1, "no tables in nowhere"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(nas, tables, options, code, message):
    found = nas("bench", "search", "--tables", tables, "--seeds", "1", *options)
    assert (found.returncode, found.stdout) == (code, "")
    assert message in found.stderr
    assert found.stderr.splitlines()[-1].startswith("error: ")
