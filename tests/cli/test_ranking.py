"""Scores that can be trusted, from the command line: adaptation in `nas rank` and `nas search`, and the study of supernets."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

import nas as package
from nas.__main__ import run as run_command
from nas.errors import DivergedError, FileError, NasError
from nas.files import sole_writer
from nas.results.ranking.standalone import ProbeTrainer
from nas.search.evaluation import SupernetEvaluator

ROOT = Path(__file__).parents[2]
SMALL = ("--train-images", 120, "--validation-images", 60, "--epochs", 1, "--batch", 16, "--threads", 1)
PROBES = ("--probes", 8, "--epochs", 1, "--threads", 1, "--json")
USAGE = {
    "rate alone": (["--adapt-rate", "1e-3"], "adapt-rate is the learning rate of an adaptation, and there is none"),
    "share alone": (
        ["--adapt-keep", "0.5"],
        "adapt-keep is the share of the weights that an adaptation begins with, and there is",
    ),
    "share": (["--adapt", "2", "--adapt-keep", "2"], "keeps is from 0 to 1, got 2.0"),
    "score": (["--score", "los"], "unknown score 'los'. Did you mean 'loss'?"),
    "rate": (["--adapt", "2", "--adapt-rate", "-1"], "learning_rate of the adaptation must be above 0, got -1.0"),
}


@pytest.fixture(scope="session")
def nets(once, mini):
    """A folder with two trained supernets, one of norms of their choices' own, and the probes of two seeds in the first."""

    def make(folder):
        def run(*arguments):
            assert run_command([str(argument) for argument in arguments]) == 0

        run("train", "--space", mini, *SMALL, "--strategy", "uniform", "--out", folder / "uniform")
        run("train", "--space", mini, *SMALL, "--strategy", "fair", "--unshare", "norms", "--out", folder / "norms")
        run("rank", folder / "uniform", *PROBES, "--seed", 0)

    return once("nets", make)


@pytest.fixture
def copied(nets, tmp_path):
    return shutil.copytree(nets, tmp_path / "nets")


def test_scores_after_some_steps_are_told_kept_and_never_mixed(nas, copied):
    run = copied / "uniform"
    plain = json.loads(nas("rank", run, *PROBES).stdout)
    assert (plain["score"], plain["adapt"]) == ("accuracy", 0)
    found = nas("rank", run, *PROBES, "--adapt", 3, "--adapt-rate", "5e-3", "--adapt-keep", 0.5, "--score", "loss")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert "0 of 8 probes are to be trained" in found.stderr
    assert (told["score"], told["adapt"], told["adapt_keep"]) == ("loss", 3, 0.5)
    assert list(told["agreements"])[:2] == ["supernet", "supernet:accuracy"]
    assert told["agreements"]["macs"] == plain["agreements"]["macs"]
    losses = [[row[name] for row in table["probes"]] for table, name in ((told, "supernet"), (plain, "supernet:loss"))]
    assert all(mine != theirs for mine, theirs in zip(*losses, strict=True))
    assert told["lead"]["over"] in set(told["similar_macs"]) - {"supernet", "supernet:accuracy"}
    assert told["lead"]["low"] <= told["lead"]["difference"] <= told["lead"]["high"]
    assert len(list((run / "ranking" / "inherited").iterdir())) == 2
    assert "loss after 3 steps of training alone from 50% of the weights" in (run / "ranking" / "ranking.html").read_text()


def test_with_several_seeds_the_mean_is_the_truth_and_their_agreement_is_told(nas, copied):
    found = nas("rank", copied / "uniform", *PROBES, "--seeds", 2)
    assert found.returncode == 0, found.stderr
    assert "0 of 8 probes are to be trained alone, 1 epochs each, with seed 0" in found.stderr
    assert "8 of 8 probes are to be trained alone, 1 epochs each, with seed 1" in found.stderr
    told = json.loads(found.stdout)
    assert all(row["accuracy"] == pytest.approx(sum(row["accuracies"]) / 2) for row in told["probes"])
    assert {len(row["accuracies"]) for row in told["probes"]} == {2}
    assert -1.0 <= told["ceiling"]["tau_low"] <= told["ceiling"]["tau_high"] <= 1.0
    assert "training alone agrees with itself" in (copied / "uniform" / "ranking" / "ranking.html").read_text()


def test_probes_that_another_recipe_trained_are_told_and_those_of_other_images_refused(nas, fails, copied):
    wanted = ("rank", copied / "norms", *PROBES, "--probes-of", copied / "uniform")
    found = nas(*wanted, "--batch", 32)
    assert "were trained otherwise (batch 64, not 32) and are of no use here" in found.stderr
    assert "were trained otherwise (by another number of threads)" in nas(*wanted, "--threads", 2).stderr
    assert "trained otherwise" not in nas(*wanted, "--seeds", 2, "--seed", 0).stderr
    config = copied / "uniform" / "config.yaml"
    known = package.Run.open(copied / "uniform").config().data_fingerprint
    config.write_text(config.read_text().replace(known, known[::-1]))
    assert "were trained on other images than" in fails(nas(*wanted), 2)


def test_what_was_scored_is_not_scored_again_and_is_the_same_where_it_is(nas, copied, monkeypatch):
    wanted = ("rank", copied / "norms", *PROBES, "--probes-of", copied / "uniform", "--adapt", 2)
    first = json.loads(nas(*wanted).stdout)
    shutil.rmtree(copied / "norms" / "ranking")
    assert json.loads(nas(*wanted).stdout) == first

    def refuse(*_):
        raise AssertionError("nothing is computed")

    monkeypatch.setattr("nas.results.ranking.scores.SupernetEvaluator", refuse)
    monkeypatch.setattr("nas.results.ranking.scores.build", refuse)
    assert json.loads(nas(*wanted).stdout) == first


def test_losses_that_are_lost_are_told_with_what_to_lower(nas, fails, copied):
    found = nas("rank", copied / "uniform", *PROBES, "--learning-rate", "1e30")
    assert (found.returncode, found.stdout) == (1, "")
    *_, failed, left_out, error = found.stderr.splitlines()
    assert failed.startswith("training failed of 8 of 8 probes, the first: the loss is nan at step ")
    assert left_out == "8 of 8 probes did not train and are left out"
    assert error.startswith("error: a ranking needs 3 probes that train alone, and 0 of 8 did: lower --learning-rate")
    lost = nas("rank", copied / "uniform", *PROBES, "--adapt", 3, "--adapt-rate", "1e30")
    assert lost.stderr.splitlines()[-1] == (
        "error: 8 of 8 networks have no finite loss with the supernet's weights after 3 steps, and a ranking needs 3 that "
        "have: lower --adapt-rate"
    )


def test_a_network_that_diverges_while_it_is_scored_is_ranked_last_and_the_others_are_ranked(nas, copied, monkeypatch):
    evaluate, calls = SupernetEvaluator.__call__, []

    def diverging(self, architecture_json, bar=None):
        calls.append(architecture_json)
        if len(calls) == 2:
            raise DivergedError("the loss is nan at step 1")
        found = evaluate(self, architecture_json, bar)
        return {**found, "loss": float("nan")} if len(calls) == 4 else found

    monkeypatch.setattr("nas.search.evaluation.SupernetEvaluator.__call__", diverging)
    shutil.rmtree(copied / "uniform" / "ranking" / "inherited")
    found = nas("rank", copied / "uniform", *PROBES, "--score", "loss")
    assert found.returncode == 0, found.stderr
    assert "2 of 8 networks have no finite loss with the supernet's weights and are ranked last" in found.stderr
    told = json.loads(found.stdout)
    lost = [row for row in told["probes"] if row["supernet:accuracy"] == 0.0]
    assert len(lost) == 2
    assert max(row["supernet"] for row in lost) < min(row["supernet"] for row in told["probes"] if row not in lost)
    assert told["tau"] != 0.0


def test_a_probe_that_a_full_disk_stopped_is_not_taken_for_one_that_cannot_train(nas, copied, monkeypatch):
    def full(*_):
        raise FileError("cannot write the checkpoint: No space left on device; free some space")

    monkeypatch.setattr("nas.supernet.finetune.save_checkpoint", full)
    known = sorted((copied / "uniform" / "ranking" / "probes").rglob("*.json"))
    found = nas("rank", copied / "uniform", *PROBES, "--seeds", 3)
    assert (found.returncode, found.stdout) == (1, "")
    assert "No space left" in found.stderr.splitlines()[-1]
    assert sorted((copied / "uniform" / "ranking" / "probes").rglob("*.json")) == known


def test_a_run_that_another_process_ranks_is_left_to_it(nas, fails, copied):
    run = copied / "uniform"
    before = sorted(run.rglob("*"))
    with sole_writer(run / "ranking"):
        assert f"another process is writing {run / 'ranking'}; wait for it" in fails(nas("rank", run, *PROBES, "--seed", 5), 1)
    assert sorted(run.rglob("*")) == before


def test_a_ranking_goes_on_without_the_probe_for_which_memory_ran_out(nas, copied, monkeypatch):
    trained, calls = ProbeTrainer._trained, []

    def lacking(trainer, architecture):
        calls.append(architecture.digest)
        return torch.empty(2**60, dtype=torch.uint8) if len(calls) == 2 else trained(trainer, architecture)

    monkeypatch.setattr(ProbeTrainer, "_trained", lacking)
    found = nas("rank", copied / "uniform", *PROBES, "--batch", 32)
    assert found.returncode == 0, found.stderr
    assert "training failed of 1 of 8 probes, the first: memory ran out (" in found.stderr
    assert "1 of 8 probes did not train and are left out" in found.stderr
    assert calls[1] not in {row["digest"] for row in json.loads(found.stdout)["probes"]}
    assert len(calls) == 8
    again = nas("rank", copied / "uniform", *PROBES, "--batch", 32)
    assert "1 of 8 probes are to be trained" in again.stderr
    assert calls[1] in {row["digest"] for row in json.loads(again.stdout)["probes"]}


@pytest.mark.parametrize(("spoil", "status", "words"), [("weights", 1, "is damaged"), ("data", 2, "has changed since the run")])
def test_what_a_ranking_cannot_score_is_told_before_any_probe_is_trained(nas, fails, copied, spoil, status, words):
    run = copied / "uniform"
    if spoil == "weights":
        checkpoint = run / "supernet" / "checkpoint.safetensors"
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    else:
        text = (run / "config.yaml").read_text()
        known = package.Run.open(run).config().data_fingerprint
        (run / "config.yaml").write_text(text.replace(known, known[::-1]))
    before = sorted((run / "ranking").rglob("*"))
    assert words in fails(nas("rank", run, *PROBES, "--seed", 5), status)
    assert sorted((run / "ranking").rglob("*")) == before


def test_a_supernet_that_another_device_trained_is_ranked_and_gone_on_with_here(nas, fails, copied):
    run = copied / "uniform"
    shutil.rmtree(run / "ranking" / "inherited")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda:77"))
    assert package.Run.open(run).config().device == "cuda:77"
    assert nas("rank", run, *PROBES).returncode == 0
    assert "there is no device 'cuda:77'" in fails(nas("train", "--resume", run), 2)
    assert nas("train", "--resume", run, "--device", "cpu").returncode == 0
    assert package.Run.open(run).config().device == "cpu"


@pytest.mark.parametrize("case", USAGE)
def test_bad_options_of_a_ranking_end_in_one_line(nas, fails, nets, case):
    arguments, words = USAGE[case]
    assert words in fails(nas("rank", nets / "uniform", *arguments), 2)


def test_a_supernet_keeps_apart_what_it_was_asked_to(nas, fails, nets):
    assert package.Run.open(nets / "norms").config().training.unshared == "norms"
    assert "unknown kind of weights to keep apart 'norm'. Did you mean 'norms'?" in fails(nas("train", "--unshare", "norm"), 2)


@pytest.mark.slow
def test_a_search_adapts_the_promising_and_says_what_it_costs(nas, nets, table, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.results.verification._SECONDS", 0.3)
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)
    wanted = ("--latency-table", table, "--budget-latency", "2s", "--accept-noise", "--threads", 1, "--evaluations", 8)
    cheap = ("--finetune-epochs", 0, "--adapt", 2, "--screen", 30, "--promote", 0.5)
    found = nas("search", "--supernet", nets / "norms", *wanted, *cheap, "--out", tmp_path / "run")
    assert found.returncode == 0, found.stderr
    assert "adapting candidates" in found.stderr
    assert "each scored after 2 steps of training alone" in found.stdout
    run = package.Run.open(tmp_path / "run")
    with run.archive() as archive:
        whole = archive.trials()
    full = [trial for trial in whole if trial.full]
    assert 0 < len(full) < len(whole) == 8
    assert all(trial.metrics["adapted"] == 2.0 for trial in full)
    assert not any("accuracy" in trial.metrics or "adapted" in trial.metrics for trial in whole if not trial.full)
    assert run.summary()["adapted"] == 2
    assert "each scored after 2 steps" in run.report_path.read_text()
    assert nas("search", "--resume", tmp_path / "run", "--device", "cpu").returncode == 0


@pytest.fixture
def study(monkeypatch, tmp_path):
    """`benchmarks/ranking.py` as a module that writes into an empty folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("benchmark_ranking", ROOT / "benchmarks" / "ranking.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n"
    (tmp_path / "ranking.md").write_text(page)
    monkeypatch.setattr(module, "DOCS", tmp_path / "ranking.md")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "ranking.json")
    return module


def test_the_study_scores_what_is_there_tells_what_is_missing_and_goes_on(study, copied, nas, capfd, monkeypatch, tmp_path):
    assert nas("rank", copied / "uniform", *PROBES, "--seeds", 2).returncode == 0
    wanted = ["--probes", str(copied / "uniform" / "ranking" / "probes"), "--supernets", str(copied), "--adapt", "0", "2"]
    study.main([*wanted, "--strategies", "uniform", "nested"])
    out, err = capfd.readouterr()
    assert "missing: nas train" in err
    assert "--strategy nested" in err
    assert "--strategy uniform" not in err
    found = json.loads((tmp_path / "ranking.json").read_text())
    assert [(row["run"], row["steps"]) for row in found["rows"]] == [("norms", 0), ("norms", 2), ("uniform", 0), ("uniform", 2)]
    for row in found["rows"]:
        assert row["scores"].keys() == {"accuracy", "loss"}
        assert row["training_clock"] == "cpu"
        assert min(row["training_seconds"], row["scoring_seconds"]) > 0
        assert len(row["networks"]) == found["probes"]["probes"] == 8
        for one in row["scores"].values():
            assert one["lead"]["low"] <= one["lead"]["difference"] <= one["lead"]["high"]
    assert {"macs", "params", "synflow"} <= found["baselines"].keys()
    assert -1.0 <= found["probes"]["ceiling"]["tau"] <= 1.0
    assert (found["probes"]["fewest_seeds"], found["probes"]["most_seeds"]) == (2, 2)
    page = (tmp_path / "ranking.md").read_text()
    assert page.startswith(f"before\n{study.BEGIN}\n8 probes")
    assert page.endswith(f"{study.END}\nafter\n")
    assert "| uniform (" in page
    assert "--unshare norms" in page
    assert str(copied) not in page + (tmp_path / "ranking.json").read_text()

    def refuse(*_):
        raise AssertionError("nothing is computed")

    monkeypatch.setattr("nas.results.ranking.scores.SupernetEvaluator", refuse)
    monkeypatch.setattr("nas.results.ranking.scores.build", refuse)
    study.main([*wanted, "--strategies", "uniform", "nested"])
    assert json.loads((tmp_path / "ranking.json").read_text())["rows"] == found["rows"]
    assert out


def test_the_study_tells_what_is_lacking_in_one_line(study, nets, tmp_path):
    probes = ["--probes", str(nets / "uniform" / "ranking" / "probes")]
    with pytest.raises(NasError, match="no supernet to score lies in"):
        study.main([*probes, "--supernets", str(tmp_path)])
    with pytest.raises(FileError, match="no outcome of a probe lies in"):
        study.main(["--probes", str(tmp_path), "--supernets", str(nets)])
