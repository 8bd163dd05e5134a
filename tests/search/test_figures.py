"""The figures that docs and README quote are those of the files in benchmarks/results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = (ROOT / "docs" / "search-benchmark.md").read_text(encoding="utf-8")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_nsga2_is_that_of_its_file():
    moo = script("moo")
    problems = json.loads((RESULTS / "moo.json").read_text())["problems"]
    part = DOCS.split(moo.BEGIN)[1].split(moo.END)[0]
    assert part.splitlines()[-len(problems) :] == [moo.line(n, problems[n]["ours"], problems[n]["pymoo"]) for n in moo.PROBLEMS]
    assert {len(row[side]) for row in problems.values() for side in ("ours", "pymoo")} == {15}
    assert "15 of each" in part


def test_the_overheads_are_those_of_their_file():
    found = json.loads((RESULTS / "search_overhead.json").read_text())
    assert found["evaluations"] == 5000
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in readme.splitlines() if "benchmarks/search_overhead.py" in line)
    for name, cost in found["ms_per_candidate"].items():
        assert f"{name} {cost['cpu']:.1f} ms" in row
        cells = [f"{cost[key]:.1f}" for key in ("cpu", "first_tenth", "last_tenth")]
        assert f"| {name} | {' | '.join(cells)} | {cost['growth']:.2f} | {cost['duplicates']} |" in DOCS


def test_the_number_of_runs_is_that_of_the_file():
    search = script("search")
    rows = json.loads((RESULTS / "search.json").read_text())
    assert f"{sum(row['seeds'] for row in rows)} runs of" in DOCS.split(search.BEGIN)[1]
