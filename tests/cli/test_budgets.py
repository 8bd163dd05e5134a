"""Several targets, objectives and budgets in one search, and a search that starts from another."""

import contextlib
import io
import json
import shutil

import pytest
import yaml

import nas as package
from nas.__main__ import run as run_command
from nas.predictors.latency_table import LatencyTable
from nas.results.origins import weights_digest

TWO = "cpu:eager,threads=1,batch=2,precision=fp32"
USAGE = {
    "no target": (["--budget-latency", "5ms@"], "no target follows the @"),
    "a unit of time": (["--budget-latency", "5kg@cpu"], "cannot read '5kg' as a time"),
    "a target": (["--budget-latency", "5ms@tpu"], "device 'tpu' of a target is not one of"),
    "twice": (["--budget-latency", "5ms", "--budget-latency", "4ms"], "--budget-latency is given twice; keep one"),
    "twice for one target": (
        ["--budget-latency", "5ms@cpu", "--budget-latency", "4ms@cpu:eager"],
        "latency on cpu:eager,threads=1,batch=1,precision=fp32 has two budgets, 5 ms and 4 ms; keep one",
    ),
    "twice the parameters": (["--budget-params", "5M", "--budget-params", "4M"], "--budget-params is given twice; keep one"),
    "memory": (["--budget-memory", "5"], "cannot read '5' as an amount of memory; write a number and one of B, kB, MB"),
    "energy": (["--budget-energy", "5ms"], "cannot read '5ms' as an energy; write a number and one of uJ, µJ, mJ, J"),
    "an energy twice": (
        ["--budget-energy", "5mJ@cpu", "--budget-energy", "4mJ@cpu"],
        "--budget-energy is given twice for cpu; keep one, or name another target by 5mJ@TARGET",
    ),
    "an energy of nothing": (["--budget-energy", "5mJ@"], "no target follows the @; write it as '5mJ@cpu:onnxruntime'"),
    "an energy elsewhere": (
        ["--budget-energy", "5mJ@cpu:onnxruntime@pi:7070"],
        "budget energy: agents count no energy, and cpu:onnxruntime,threads=1,batch=1,precision=fp32@pi:7070 is one's",
    ),
    "a target of parameters": (
        ["--objectives", "accuracy,params@cpu"],
        "only a latency or an energy has a target; write 'params'",
    ),
    "an objective": (["--objectives", "accuracy,latncy"], "unknown objective 'latncy'. Did you mean 'latency'?"),
    "an objective twice": (["--objectives", "accuracy,macs,macs"], "objective 'macs' is given twice"),
    "no accuracy": (
        ["--objectives", "latency"],
        "leave out how good a network is; write accuracy first, e.g. accuracy,latency",
    ),
    "a share": (
        ["--screen", "64", "--promote", "1.5"],
        "the share of candidates to score in full lies above 0 and at most at 1",
    ),
    "a share of nothing": (["--promote", "0.5"], "and none are screened: give screen too"),
    "a score of nothing": (["--screen-by", "naswot"], "and none are screened: give screen too"),
    "a cheap score": (["--screen", "64", "--screen-by", "naswt"], "unknown cheap score 'naswt'. Did you mean 'naswot'?"),
    "one image for a proxy": (["--screen", "1", "--screen-by", "synflow"], "screening by synflow needs at least 2 images"),
    "no images": (["--screen", "0"], "screen must be at least 1, got 0"),
}


@pytest.mark.parametrize(("arguments", "words"), USAGE.values(), ids=USAGE)
def test_budgets_and_objectives_that_make_no_sense_end_with_code_2(nas, fails, tmp_path, arguments, words):
    assert words in fails(nas("search", *arguments), 2)
    assert list(tmp_path.iterdir()) == []


def test_other_runs_that_do_not_exist_are_named(nas, fails, tmp_path):
    for arguments in (("search", "--from", "nowhere"), ("front", "nowhere")):
        assert "nowhere is no run folder" in fails(nas(*arguments), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_infeasible_is_gone_on_from_under_other_budgets(nas, mini, tmp_path):
    options = ("--space", mini, "--threads", 1, "--budget-params", 1)
    assert nas("search", *options, "--out", "first").returncode == 3
    assert "0 of 0 candidates" in nas("front", "first").stdout.splitlines()[-1]
    before = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert "study.journal" not in before
    wanted = ("--objectives", "accuracy,latency,macs", "--screen", 512, "--promote", 0.5)
    found = nas("search", "--from", "first", *wanted, "--budget-params", 2, "--out", "second")
    assert found.returncode == 3, found.stderr
    assert "--screen 512 spares nothing: there are 288 validation images" in found.stderr
    assert "improves one objective" not in found.stderr
    config = package.Run.open("second").config()
    assert (config.strategy, config.supernet) == ("auto", None), "the supernet of the first run was never trained"
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == before
    found = nas("search", "--from", "second", "--strategy", "tpe", "--out", "third")
    assert "tpe improves one objective alone; --strategy auto follows all of accuracy, latency, macs" in found.stderr
    nas("search", "--from", "third", "--objectives", "accuracy", "--out", "fourth")
    assert package.Run.open("fourth").config().strategy == "tpe"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(once, reference, table):
    """A search from the finished run, on a second target, under other budgets, with cheap scores first; measured in a hurry."""

    def make(folder):
        (folder / "two.json").write_text(table.read_text().replace("cpu:eager,threads=1,batch=1,precision=fp32", TWO))
        options = ("--budget-latency", "2s", "--budget-latency", f"3s@{TWO}", "--budget-memory", "1MiB")
        options += ("--objectives", "accuracy,params", "--strategy", "random", "--screen", 64, "--promote", 0.25)
        options += ("--evaluations", 9, "--latency-table", folder / "two.json", "--out", folder / "run")
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr("nas.results.verification._SECONDS", 0.3, raising=False)
            patch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02, raising=False)
            code = run_command([str(option) for option in ("search", "--from", reference / "run", *options)])
        assert code == 0, err.getvalue()
        (folder / "stdout").write_text(out.getvalue())
        (folder / "stderr").write_text(err.getvalue())

    return once("started", make)


def test_every_target_is_verified_and_told(started):
    summary = package.Run.open(started / "run").summary()
    assert summary["budgets"] == {"latency": 2.0, f"latency@{TWO}": 3.0, "memory": 2.0**20}
    found = summary["targets"][f"latency@{TWO}"]
    assert (found["target"], found["budget"]) == (TWO, 3.0)
    assert found["low"] <= found["median"] <= found["high"] <= 3.0
    assert summary["latency_high"] <= 2.0
    assert 0 < summary["memory"] <= 2.0**20
    measured = json.loads((started / "run" / "verification.json").read_text())
    final = {item["measurement"]["target"] for item in measured if item["final"] and item["digest"] == summary["digest"]}
    assert final == {summary["target"], TWO}
    told = (started / "stdout").read_text()
    assert f"latency 2 s on {summary['target']}, latency 3 s on {TWO}, memory 1 MiB" in told
    assert f"on {TWO}\n" in told


def test_the_candidates_of_the_other_run_are_history_and_none_is_evaluated_again(started, reference):
    run = package.Run.open(started / "run")
    with run.archive() as archive, package.Run.open(reference / "run").archive() as before:
        trials, known = archive.trials(), before.trials()
    assert len(trials) == 48 + 9
    assert [trial.architecture for trial in trials[:48]] == [trial.architecture for trial in known]
    assert [trial.metrics["accuracy"] for trial in trials[:48]] == [trial.metrics["accuracy"] for trial in known]
    assert len({trial.architecture.digest for trial in trials}) == 57
    assert {trial.origin for trial in trials} == {str(reference / "run"), ""}
    assert run.summary()["taken_over"] == 48
    assert weights_digest(run.checkpoint) == weights_digest(package.Run.open(reference / "run").checkpoint)
    assert "Supernet: done" in (started / "stderr").read_text()


def test_cheap_scores_come_first_and_the_saving_is_told(started):
    run = package.Run.open(started / "run")
    with run.archive() as archive:
        own = [trial for trial in archive.trials() if not trial.origin]
    screening = run.summary()["screening"]
    assert screening["candidates"] == 9
    assert screening["full"] == sum(trial.full for trial in own) >= 1
    assert screening["scored"] == sum(trial.metrics["images"] for trial in own)
    told = f"{screening['full']} of 9 candidates scored on all"
    assert told in (started / "stdout").read_text()
    assert told in run.report_path.read_text()


def test_the_front_of_one_run_and_of_two_is_printed_and_drawn(nas, started, reference, tmp_path):
    found = nas("front", started / "run", reference / "run", "--plot", "front.png")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].split()[:2] == ["network", "run"]
    assert f"latency@{TWO}" in lines[0]
    assert "of 57 candidates" in lines[-1]
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
    told = json.loads(nas("front", started / "run", "--objectives", "accuracy,macs", "--budget-params", "4k", "--json").stdout)
    assert told["objectives"] == ["accuracy", "macs"]
    assert told["budgets"] == {"params": 4000.0}
    accuracies, sizes = ([row[name] for row in told["front"]] for name in ("accuracy", "macs"))
    assert all(row["params"] <= 4000 for row in told["front"])
    assert sorted(accuracies) == [accuracy for _, accuracy in sorted(zip(sizes, accuracies, strict=True))]


def test_a_plot_of_another_kind_or_without_candidates_is_refused(nas, fails, started, tmp_path):
    assert "the file ends in one of .png, .svg, .pdf" in fails(nas("front", started / "run", "--plot", "front.bmp"), 2)
    assert not (tmp_path / "front.bmp").exists()


def test_what_a_run_did_not_ask_for_is_filled_in_where_it_can_be(nas, fails, reference):
    told = json.loads(nas("front", reference / "run", "--budget-memory", "40KiB", "--json").stdout)
    assert all(0 < row["memory"] <= 40960 for row in told["front"])
    line = fails(nas("front", reference / "run", "--budget-latency", "1ms@cpu:onnxruntime"), 2)
    assert "knows no latency@cpu:onnxruntime" in line
    assert "leave it out or take one of accuracy" in line


def test_other_budgets_for_a_run_in_its_own_folder_are_refused_with_the_way_to_go(nas, fails, copied):
    before = (copied / "config.yaml").read_bytes()
    line = fails(nas("search", "--resume", copied, "--budget-latency", "4ms"), 2)
    assert "nas search --from RUN starts from a run with other options" in line
    assert "leave --budget-latency away" in line
    assert (copied / "config.yaml").read_bytes() == before


def test_a_latency_table_of_no_target_of_the_run_or_two_of_one_are_refused(nas, fails, tmp_path, mini, table):
    shutil.copy(table, tmp_path / "same.json")
    line = fails(nas("search", "--space", mini, "--latency-table", table, "--latency-table", "same.json"), 1)
    assert "are both tables of cpu:eager" in line
    other = LatencyTable.load(table)
    assert str(other.target).startswith("cpu:eager")
    line = fails(nas("search", "--space", mini, "--latency-table", table, "--budget-latency", "1ms@cpu:onnxruntime"), 1)
    assert "is of target cpu:eager" in line
    assert [path.name for path in tmp_path.iterdir()] == ["same.json"]


def test_budgets_that_contradict_each_other_name_what_the_closest_spends(nas, mini, tmp_path):
    found = nas("search", "--space", mini, "--budget-params", "2.1k", "--budget-memory", "20KiB", "--out", "run")
    assert found.returncode == 3
    line = found.stderr.splitlines()[-1]
    assert "budget of" in line
    assert "the closest one found has" in line
    assert " beside " in line
    closest = tmp_path / "run" / "closest.json"
    assert str(closest.relative_to(tmp_path)) in line
    described = nas("describe", closest, "--json", "--num-classes", 10, "--in-channels", 1)
    assert described.returncode == 0, described.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["budgets"] == {"params": 2100.0, "memory": 20480.0}
