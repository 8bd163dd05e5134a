"""The figures that docs and README quote are those of the files in benchmarks/results."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.search import strategy
from nas.search.table_runs import Played
from nas.search.types import COMPLETE, Trial

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = (ROOT / "docs" / "search-benchmark.md").read_text(encoding="utf-8")


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for the module that they are in
    spec.loader.exec_module(module)
    return module


def test_the_overheads_are_those_of_their_file():
    found = json.loads((RESULTS / "search_overhead.json").read_text())
    assert found["evaluations"] == 5000
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in readme.splitlines() if "benchmarks/search_overhead.py" in line)
    for name, cost in found["ms_per_candidate"].items():
        assert f"{name} {cost['cpu']:.1f} ms" in row
        if cost["candidates"] < found["evaluations"]:  # stopped before the end
            assert f"{name} {cost['cpu']:.1f} ms over {cost['candidates']:,}" in row
            assert f"{cost['cpu']:.0f} ms over the first {cost['candidates']:,}" in DOCS
            continue
        cells = [f"{cost[key]:.1f}" for key in ("cpu", "first_tenth", "last_tenth")]
        assert f"| {name} | {' | '.join(cells)} | {cost['growth']:.2f} | {cost['duplicates']} |" in DOCS


def test_the_number_of_runs_is_that_of_the_file():
    search = script("search")
    rows = json.loads((RESULTS / "search.json").read_text())
    assert f"{sum(row['seeds'] for row in rows)} runs of" in DOCS.split(search.BEGIN)[1]


def toy(kind, *devices):
    name, table = f"toy {kind} {' '.join(devices)}", SimpleNamespace(name="toy")
    told = {"device": devices[0], "devices": devices, "fraction": float, "reached": bool}
    return SimpleNamespace(name=name, table=table, kind=kind, quantile=0.25, **told)


def runs_of(values):
    """By task and strategy, runs whose curve stays at a value, one for each seed."""
    return {
        (task.name, strategy): [Played(task.name, strategy, seed, 150, (value,) * 150, 0, 0, 0) for seed, value in some.items()]
        for (task, strategy), some in values
    }


def test_fronts_are_averaged_over_devices_before_seeds_give_an_interval():
    search = script("search")
    fast, slow = toy("front", "fast"), toy("front", "slow")
    runs = runs_of([((fast, "bo"), {0: 0.9, 1: 0.7}), ((slow, "bo"), {0: 0.5, 1: 0.3, 2: 0.1})])
    (line,) = search.front_lines([fast, slow], runs, ["bo"])[2:]
    assert line.startswith("| toy | 2 | bo | 2 | 2 | 0.600 ± ")
    assert math.isclose(float(line.split("± ")[1].split()[0]), 12.706 * 0.1, rel_tol=1e-3)
    runs = runs_of([((fast, "bo"), {0: 0.9}), ((slow, "bo"), {0: 0.5})])
    assert search.front_lines([fast, slow], runs, ["bo"])[2:] == ["| toy | 2 | bo | 2 | 1 | 0.700 | 0.700 | 0.700 | 0.700 |"]


def test_fronts_of_three_objectives_stand_apart_from_those_of_two():
    search = script("search")
    two, three = toy("front", "fast"), toy("front", "fast", "slow")
    runs = runs_of([((two, "bo"), {0: 0.9}), ((three, "bo"), {0: 0.5})])
    assert [line.split(" | ")[1] for line in search.front_lines([two, three], runs, ["bo"])[2:]] == ["2", "3"]


def test_leads_are_over_the_seeds_that_both_have_played():
    """Over all its seeds the first would be far ahead, by luck that the other had no part in."""
    search = script("search")
    task = toy("best", "phone")
    runs = runs_of([((task, "bo"), {0: 0.8, 1: 1.0, 2: 1.0}), ((task, "random"), {0: 0.9})])
    assert search.lead_lines([task], runs, ["bo", "random"])[2:] == ["| random | 1 | 1 | 0 | 0 | 1 | 0.1000 (phone 25%) |"]


def test_a_run_of_today_is_shown_before_an_older_one_and_older_ones_are_counted(monkeypatch):
    search = script("search")
    monkeypatch.setattr(search, "fingerprint", lambda task, name: "today")
    monkeypatch.setattr(search, "run_key", lambda task, *rest: (task.name, *rest, "today"))
    task = toy("best", "phone")
    stored = [Played(task.name, "bo", seed, 150, (value,), 0, 0, 0, mark) for seed, value, mark in
              [(0, 0.1, "older"), (0, 0.2, "today"), (1, 0.3, "older"), (1, 0.4, "")]]  # fmt: skip
    shown, older = search.of_today([task], stored)
    assert sorted(run.curve[0] for run in shown.runs.values()) == [0.2, 0.3]
    assert older == {"bo": 1}


def test_runs_of_a_report_are_kept_and_joined_by_those_of_new_folders(tmp_path, monkeypatch):
    search = script("search")
    monkeypatch.setattr(search, "RUNS", tmp_path / "runs.jsonl.gz")
    first = Played("toy", "bo", 0, 2, (math.nan, 0.5), 0, 0, 0, "today")
    second = replace(first, seed=1)
    search.store([first])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "runs.jsonl").write_text(search.line(second))
    found = search.stored([tmp_path / "new"])
    assert sorted(run.seed for run in found) == [0, 1]
    assert all(math.isnan(run.curve[0]) and run.curve[1] == 0.5 for run in found)
    search.store(found)
    before = search.RUNS.read_bytes()
    search.store(search.stored([]))
    assert search.RUNS.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "share", "kept"), [("bananas", 5, 200), ("boshnas", 5, 200), ("surrogate", 25, 300), ("bo", 50, 300)]
)
def test_batches_and_evidence_are_those_that_the_docs_tell(name, share, kept, problem, fake):
    told = {
        5: "`bananas` and `boshnas` a fifth",
        25: "`surrogate` and `gp` four in a hundred",
        50: "`bo` and `tpe` two in a hundred",
    }
    assert told[share] in DOCS
    found = strategy.create(name, problem)
    start, size = found._batches.of(2000)
    assert size == start // share
    known = [Trial(n, None, COMPLETE, {"accuracy": 0.5, "latency": 1.0}) for n in range(1000)]
    assert len(found.evidence(known)) == kept
