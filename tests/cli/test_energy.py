"""Energy from profile to search, on a chip whose joules we know (tests/support/toy_meter.py)."""

import contextlib
import csv
import io
import json
import os
import shutil
import statistics
import subprocess
import sysconfig
from pathlib import Path

import pytest
import toy_meter
from toy_meter import CHIP, TARGET, announced, joules_of

import nas as package
from nas.__main__ import run as run_command
from nas.errors import InfeasibleError
from nas.predictors import latency_profile
from nas.predictors.cost import cost
from nas.predictors.latency_table import LatencyTable
from nas.predictors.meters import rapl
from nas.predictors.samples import read_samples, samples_path
from nas.progress import Silent

pytestmark = pytest.mark.slow

SIZES = ("--networks", 10, "--held-out", 4, "--seconds", 2)


@pytest.fixture(scope="module", autouse=True)
def chip():
    """This process knows the chip, and forgets it again."""
    with announced():
        yield


@pytest.fixture(scope="module")
def counted(once, mini):
    """A table of the chip with energies, made by a process that knows the chip by its entry points alone."""

    def make(folder: Path) -> None:
        toy_meter.install(folder)
        paths = os.pathsep.join((str(folder), str(Path(toy_meter.__file__).parent)))
        command = [f"{sysconfig.get_path('scripts')}/nas", "profile", "--space", mini, "--target", TARGET, *SIZES, "--energy"]
        found = subprocess.run(
            [*map(str, command), "--out", str(folder / "table.json"), "--json"],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        (folder / "stdout").write_text(found.stdout)
        (folder / "stderr").write_text(found.stderr)

    return once("counted", make) / "table.json"


def macs_of(architecture):
    return cost(architecture, in_channels=1, num_classes=10).macs


def stripped(table, path, left=0):
    """The table with no more than `left` energies, elsewhere."""
    data = json.loads(table.read_text())
    data["energies"] = dict(list(data["energies"].items())[:left])
    if not left:
        del data["energies"]
    path.write_text(json.dumps(data))
    return path


def test_a_profile_counts_what_its_networks_take_and_says_first_what_that_costs(counted):
    table = LatencyTable.load(counted)
    assert table.energies.keys() == table.networks.keys()
    for digest, energy in table.energies.items():
        assert energy.joules == pytest.approx(joules_of(macs_of(table.networks[digest].architecture)), rel=0.05)
        assert energy.low <= energy.joules <= energy.high
        assert energy.rest == pytest.approx(toy_meter.RESTING, rel=0.05)
        assert energy.meter == "toy"
    assert "to count the energy of 14\nenergy is counted by toy: the whole chip\n" in (counted.parent / "stderr").read_text()
    told = json.loads((counted.parent / "stdout").read_text())["energy"]
    assert told["networks"] == 14
    assert told["n"] == 4


def test_every_round_is_kept_beside_the_table(counted):
    lines = [line for line in read_samples(samples_path(counted)) if line["what"] == "energy"]
    energies = LatencyTable.load(counted).energies
    assert {line["id"] for line in lines} == energies.keys()
    for digest, energy in energies.items():
        mine = [line for line in lines if line["id"] == digest]
        nets = [(line["joules"] - line["rest_joules"] / line["rest_spell"] * line["spell"]) / line["runs"] for line in mine]
        assert statistics.median(nets) == pytest.approx(energy.joules)
        assert sum(line["runs"] for line in mine) == energy.runs
        assert {line["meter"] for line in mine} == {"toy"}


def test_a_table_is_given_the_energies_that_it_lacks_and_keeps_those_it_has(nas, mini, counted, tmp_path, monkeypatch):
    shutil.copy(samples_path(counted), tmp_path / "t.samples.jsonl.gz")
    path = stripped(counted, tmp_path / "t.json", left=3)
    before = LatencyTable.load(path)
    monkeypatch.setattr(latency_profile, "SAVE_SECONDS", 0.0)

    def stopped(table, meter, watch):
        for number, step in enumerate(latency_profile_count(table, meter, watch)):
            yield step
            if number == 1:
                raise KeyboardInterrupt

    latency_profile_count = latency_profile.count_energies
    command = ("profile", "--space", mini, "--target", TARGET, *SIZES, "--energy", "--out", path)
    with monkeypatch.context() as patch:
        patch.setattr(latency_profile, "count_energies", stopped)
        assert "the same command goes on with it" in nas(*command).stderr.splitlines()[-1]
    half = LatencyTable.load(path)
    assert len(half.energies) == 5
    found = nas(*command)
    assert found.returncode == 0, found.stderr
    assert "0 s to measure them" in found.stderr
    assert "to count the energy of 9\n" in found.stderr
    assert "energy of 14 networks, counted by toy; on 4 held-out ones: mean error" in found.stdout
    after = LatencyTable.load(path)
    assert {digest: after.energies[digest] for digest in half.energies} == half.energies
    assert after.networks.keys() == before.networks.keys()


def test_a_table_with_a_few_energies_is_as_good_as_one_without(nas, mini, counted, tmp_path):
    path = stripped(counted, tmp_path / "t.json", left=3)
    found = nas("profile", "--space", mini, "--target", TARGET, *SIZES, "--out", path, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["energy"] == {"networks": 3}
    assert len(LatencyTable.load(path).energies) == 3


def test_energies_of_two_meters_are_not_mixed(nas, mini, counted, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(
        counted.read_text().replace('"meter":"toy"', '"meter":"other"').replace('"meter": "toy"', '"meter": "other"')
    )
    found = nas("profile", "--space", mini, "--target", TARGET, *SIZES, "--energy", "--out", path)
    assert found.returncode == 1
    assert (
        "has energies counted by other, not by toy, and each counts other parts of a machine; name another file"
        in found.stderr.splitlines()[-1]
    )


def test_a_machine_without_a_meter_says_so_in_one_line(nas, mini, tmp_path, monkeypatch):
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path / "none")
    for command in (
        ("profile", "--energy"),
        ("search", "--budget-energy", "5mJ"),
        ("search", "--objectives", "accuracy,energy"),
    ):
        result = nas(*command, "--space", mini)
        line = result.stderr.splitlines()[-1]
        assert result.returncode == 1, result.stderr
        assert line.startswith("error: nothing counts the energy of cpu:eager,threads=1,batch=1,precision=fp32 here (rapl: ")
        assert line.endswith("go to a machine that counts it, or leave the energy out")
        assert "Feasibility" not in result.stderr


def test_a_table_without_energies_is_refused_with_the_command_that_counts_them(nas, mini, counted, tmp_path):
    path = stripped(counted, tmp_path / "t.json")
    assert LatencyTable.load(path).energies == {}
    options = ("--space", mini, "--target", TARGET, "--latency-table", path)
    found = nas("search", *options, "--budget-energy", "5mJ")
    line = found.stderr.splitlines()[-1]
    assert found.returncode == 1
    assert (
        f"holds the energy of 0 networks, and a prediction needs 8; count them by `nas profile --target {TARGET} --energy`"
        in line
    )
    assert not list(tmp_path.glob("runs/*/summary.json"))


def test_a_budget_below_every_network_ends_with_code_3_and_the_closest(nas, mini, counted, monkeypatch):
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)
    options = ("--space", mini, "--target", TARGET, "--latency-table", counted, "--threads", 1, "--accept-noise")
    found = nas("search", *options, "--budget-energy", "1uJ", "--out", "run")
    assert found.returncode == 3, found.stderr
    line = found.stderr.splitlines()[-1]
    assert "meets the energy budget of 1 µJ: the closest one found has" in line
    closest = package.Architecture.from_mapping(json.loads(Path("run/closest.json").read_text()))
    least = min(macs_of(item.architecture) for item in LatencyTable.load(counted).networks.values())
    assert macs_of(closest) <= 1.5 * least
    assert "Supernet" not in found.stderr


class Notes(Silent):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


@pytest.mark.thorough
def test_a_search_without_a_table_counts_for_itself(mini, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)
    notes = Notes()
    sizes = {"profile_networks": 8, "profile_held_out": 2, "profile_seconds": 1.0, "accept_noise": True, "threads": 1}
    with pytest.raises(InfeasibleError, match="meets the energy budget of 1 µJ"):
        package.search(str(mini), target=TARGET, budgets={"energy": 1e-6}, out=tmp_path / "run", reporter=notes, **sizes)
    told = [note for note in notes.told if note.startswith(f"the profile of {TARGET} takes about")]
    assert len(told) == 1
    assert told[0].endswith("to count the energy of 10")
    assert len(LatencyTable.load(tmp_path / "run" / "latency" / "table.json").energies) == 10


@pytest.fixture(scope="module")
def frugal(once, reference, counted):
    """A search from the finished run, on the chip, under a budget of energy and with energy as an objective."""

    def make(folder: Path) -> None:
        table = LatencyTable.load(counted)
        limit = statistics.median(energy.joules for energy in table.energies.values())
        (folder / "limit").write_text(str(limit))
        options = (
            "--target",
            TARGET,
            "--latency-table",
            counted,
            "--budget-latency",
            "1s",
            "--budget-energy",
            f"{limit * 1e6:.3f}uJ",
        )
        options += ("--objectives", "accuracy,energy", "--strategy", "random", "--evaluations", 8, "--out", folder / "run")
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nas.results.verification._SECONDS", 0.3)
            patch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run_command([str(option) for option in ("search", "--from", reference / "run", *options)])
        assert code == 0, err.getvalue()
        (folder / "stdout").write_text(out.getvalue())
        (folder / "stderr").write_text(err.getvalue())

    return once("frugal", make)


def test_the_winner_is_counted_again_and_is_under_its_budget(frugal):
    summary, limit = package.Run.open(frugal / "run").summary(), float((frugal / "limit").read_text())
    assert summary["budgets"]["energy"] == pytest.approx(limit, rel=1e-3)
    found = summary["energies"]["energy"]
    assert (found["target"], found["meter"]) == (TARGET, "toy")
    assert found["low"] <= found["joules"] <= found["high"] <= limit * 1.001
    assert found["joules"] == pytest.approx(joules_of(summary["macs"]), rel=0.05)
    assert found["predicted"] <= found["predicted_upper"] <= limit * 1.001
    assert found["predictor"]["n"] == 4
    told = (frugal / "stdout").read_text()
    assert f"counted by toy as exported; predicted {package_energy(found['predicted'])}" in told
    assert f"energy {package_energy(summary['budgets']['energy'])} on {TARGET}" in told
    assert "energy predictor of" in (frugal / "stderr").read_text()


def package_energy(joules):
    from nas.quantities import format_energy

    return format_energy(joules)


def test_what_the_winner_was_held_to_is_told_budget_by_budget(frugal):
    summary = package.Run.open(frugal / "run").summary()
    assert summary["verified"] is True
    assert summary["checks"] == {"latency": "measured", "energy": "measured"}
    assert "unverified" not in (frugal / "stdout").read_text()
    assert "was measured and meets the budget (budget:" in (frugal / "run" / "report.html").read_text()


def test_the_cost_that_is_told_before_a_search_has_what_counting_takes(frugal):
    told = next(line for line in (frugal / "stderr").read_text().splitlines() if "the rest takes about" in line)
    assert "counting energy" in told


def test_every_verdict_on_the_chip_holds_what_was_counted(frugal):
    verdicts = json.loads((frugal / "run" / "verification.json").read_text())
    limit = package.Run.open(frugal / "run").summary()["budgets"]["energy"]
    assert verdicts[-1]["final"]
    for verdict in verdicts:
        assert verdict["accepted"] == (verdict["energy"]["high"] <= limit)


def test_candidates_are_held_to_the_upper_end_of_their_predicted_energy(frugal):
    run = package.Run.open(frugal / "run")
    with run.archive() as archive:
        trials = archive.trials()
    own = [trial for trial in trials if not trial.origin]
    assert own
    assert all(trial.metrics["energy"] <= trial.metrics["energy_upper"] <= run.summary()["budgets"]["energy"] for trial in own)
    assert {True, False} == {trial.metrics["energy_upper"] <= run.summary()["budgets"]["energy"] for trial in trials}


def test_the_front_is_of_accuracy_and_energy_everywhere(nas, frugal, tmp_path):
    run = frugal / "run"
    told = json.loads(nas("front", run, "--json").stdout)
    assert told["objectives"] == ["accuracy", "energy"]
    points = sorted((row["energy"], row["accuracy"]) for row in told["front"])
    assert points
    assert [accuracy for _, accuracy in points] == sorted({accuracy for _, accuracy in points})
    with (run / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((float(row["energy"]), float(row["accuracy"])) for row in rows) == points
    assert "energy" in nas("front", run, "--plot", "front.svg").stdout.splitlines()[0]
    assert (tmp_path / "front.svg").stat().st_size > 0
    report = (run / "report.html").read_text()
    assert f"Energy of a run on <code>{TARGET}</code>" in report
    assert f"energy on {TARGET}, counted" in report
    fewer = json.loads(nas("front", run, "--budget-energy", f"{points[0][0] * 1.2e6:.4f}uJ", "--json").stdout)["front"]
    assert len(fewer) <= len(points)


def test_a_run_that_did_not_ask_for_energy_is_told_it_by_a_table_that_knows(nas, reference, frugal):
    """The first run's candidates under the second one's predictor: energy@TARGET is nobody's objective there."""
    told = json.loads(
        nas("front", reference / "run", frugal / "run", "--objectives", f"accuracy,energy@{TARGET}", "--json").stdout
    )
    assert told["objectives"] == ["accuracy", f"energy@{TARGET}"]
    assert all(row[f"energy@{TARGET}"] > 0 for row in told["front"])


def test_a_report_written_again_says_the_same(nas, frugal, tmp_path):
    copy = Path(shutil.copytree(frugal / "run", tmp_path / "copy"))
    again = json.loads(nas("report", copy, "--json").stdout)
    assert again["energies"] == json.loads((frugal / "run" / "summary.json").read_text())["energies"]


def test_where_the_meter_has_gone_the_winner_is_predicted_and_that_is_said(nas, reference, counted, monkeypatch):
    monkeypatch.setitem(CHIP, "broken", "its counter is in repair")
    monkeypatch.setattr("nas.results.verification._SECONDS", 0.3)
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)
    budgets = ("--budget-latency", "1s", "--budget-energy", "1J", "--budget-params", "1M")
    options = ("--target", TARGET, "--latency-table", counted, *budgets, "--finetune-epochs", 0)
    found = nas("search", "--from", reference / "run", *options, "--evaluations", 1, "--strategy", "random", "--out", "run")
    assert found.returncode == 0, found.stderr
    assert "the winner's energy will be predicted and not counted: nothing counts the energy of" in found.stderr
    assert "toy: its counter is in repair" in found.stderr
    assert "not counted, as nothing counts it here" in found.stdout
    assert "counting energy" not in found.stderr
    summary = package.Run.open("run").summary()
    assert "joules" not in summary["energies"]["energy"]
    assert summary["verified"] is False
    assert summary["checks"] == {"latency": "measured", "energy": "predicted", "params": "computed"}
    assert f"  unverified energy 1 J on {TARGET}: kept by the prediction's upper end, and not counted" in found.stdout
    report = Path("run/report.html").read_text()
    assert "meets the budget, but for energy 1 J, which it keeps by a prediction: nothing counts it here" in report
    assert json.loads(nas("report", "run", "--json").stdout) == json.loads(Path("run/summary.json").read_text())
