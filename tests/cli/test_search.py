"""A whole search through the command line, and what it leaves behind."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

import nas as package
from nas.results.load import load_backbone

pytestmark = pytest.mark.slow

FILES = (
    "config.yaml",
    "front.csv",
    "latency/table.json",
    "report.html",
    "study.journal",
    "summary.json",
    "supernet/checkpoint.safetensors",
    "winner/architecture.json",
    "winner/backbone.onnx",
    "winner/backbone.pt2",
    "winner/backbone.py",
    "winner/recipe.yaml",
    "winner/weights.safetensors",
)


def test_a_search_prints_a_summary_on_stdout_and_progress_on_stderr(reference):
    out, err = ((reference / name).read_text() for name in ("stdout", "stderr"))
    told = dict(line.split(None, 1) for line in out.splitlines())
    assert list(told) == ["found", "latency", "predicted", "budget", "accuracy", "searched", "files"]
    assert told["budget"].startswith("latency 50 ms on cpu:eager")
    assert told["searched"].startswith("48 candidates")
    assert err.startswith(f"run folder: {reference / 'run'}\n")
    for phase in ("Feasibility", "Supernet", "Search", "Verification and export", "Report"):
        assert f"{phase}: done in" in err


def test_a_search_leaves_every_file_and_no_scraps(reference):
    found = {str(path.relative_to(reference / "run")) for path in (reference / "run").rglob("*") if path.is_file()}
    assert set(FILES) <= found
    assert not [name for name in found if "/." in name or name.startswith(".") or name.endswith((".tmp", ".lock"))]


def test_the_winner_keeps_the_promise_and_is_the_best_candidate_that_does(reference):
    run = package.Run.open(reference / "run")
    summary = run.summary()
    assert summary["verified"] is True
    assert summary["latency_low"] <= summary["latency"] <= summary["latency_high"] <= 0.05
    trials = run.archive().trials()
    assert len(trials) == 48
    assert (
        summary["digest"]
        == max(trials, key=lambda trial: (trial.metrics["accuracy"], -trial.metrics["loss"])).architecture.digest
    )
    rows = list(csv.DictReader(run.front_path.open()))
    assert max(float(row["accuracy"]) for row in rows) == max(trial.metrics["accuracy"] for trial in trials)


def test_the_config_says_how_to_repeat_the_run(reference):
    config = yaml.safe_load((reference / "run" / "config.yaml").read_text())
    assert config["seed"] == 3
    assert config["budgets"] == {"latency": 0.05}
    assert config["command"].startswith("nas search --space")
    assert config["versions"]["torch"]
    assert len(config["data_fingerprint"]) == 16


def test_the_exported_module_runs_with_torch_alone(reference):
    winner = reference / "run" / "winner"
    code = (
        "import runpy, sys\n"
        "for name in ('nas', 'safetensors', 'optuna', 'numpy.typing.nas'): sys.modules[name] = None\n"
        "sys.argv = ['backbone.py']\n"
        "runpy.run_path('backbone.py', run_name='__main__')\n"
    )
    for command in ([sys.executable, "backbone.py"], [sys.executable, "-c", code]):
        found = subprocess.run(command, cwd=winner, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        assert found.stdout == "(1, 1, 32, 32) -> (1, 10)\n"


def test_export_writes_the_winner_again(nas, reference, tmp_path):
    found = nas("export", reference / "run", "--out", "given", "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert set(told["files"]) == {"json", "safetensors", "python", "onnx", "torch", "recipe"}
    assert all((tmp_path / path).is_file() for path in told["files"].values())
    given, winner = load_backbone(tmp_path / "given").state_dict(), load_backbone(reference / "run" / "winner").state_dict()
    assert all(given[name].equal(winner[name]) for name in winner)


def test_export_writes_the_formats_that_were_asked_for_and_no_others(nas, reference, tmp_path):
    found = nas("export", reference / "run", "--out", "given", "--formats", "json, safetensors")
    assert found.returncode == 0, found.stderr
    assert {path.name for path in (tmp_path / "given").iterdir()} == {"architecture.json", "weights.safetensors", "recipe.yaml"}
    assert len(found.stdout.splitlines()) == 3


def test_report_writes_the_report_again_and_says_the_same(nas, reference, copied):
    (copied / "report.html").unlink()
    (copied / "front.csv").unlink()
    found = nas("report", copied, "--json")
    assert found.returncode == 0, found.stderr
    first = json.loads((reference / "run" / "summary.json").read_text())
    told = json.loads(found.stdout)
    # A copy lies elsewhere, and the time for writing the first report is known only now.
    assert told.keys() == first.keys()
    assert {name for name in told if told[name] != first[name]} <= {"run", "durations"}
    assert (copied / "front.csv").read_bytes() == (reference / "run" / "front.csv").read_bytes()
    assert told["digest"] in (copied / "report.html").read_text()


def test_what_is_to_know_of_the_latency_is_told_by_a_later_report_too(nas, copied):
    summary = copied / "summary.json"
    note = "cpu:eager: a program that gives memory back takes 1.90 times as long"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"notes": [note]}))
    found = nas("report", copied)
    assert found.returncode == 0, found.stderr
    assert "1.90 times as long" in " ".join(found.stdout.split())
    assert json.loads(summary.read_text())["notes"] == [note]


def test_resuming_a_finished_run_only_reports_it_again(nas, copied):
    journal, before = (copied / "study.journal").read_bytes(), (copied / "summary.json").read_text()
    found = nas("search", "--resume", copied, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["digest"] == json.loads(before)["digest"]
    assert (copied / "study.journal").read_bytes() == journal
