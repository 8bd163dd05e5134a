"""`nas profile`: extending, comparing, other packages' runtimes, and int8."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nas.predictors.latency_table import LatencyTable
from nas.predictors.samples import read_samples, samples_path
from nas.results.run import Run
from nas.search_spaces.exclusion import operators_in

DOCS = Path(__file__).resolve().parents[2] / "docs" / "targets.md"


@pytest.fixture
def mine(table, tmp_path):
    """A copy of the table of the tiny space, with its samples."""
    for path in (table, samples_path(table)):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / table.name


def test_a_profile_says_first_what_it_costs_and_keeps_its_samples(table):
    told = (table.parent / "stderr").read_text()
    assert re.search(r"profiling mini .* about .*: .* for node times, .* to prepare 14 networks, .* to measure them", told)
    seen = {line["id"] for line in read_samples(samples_path(table)) if line["what"] == "network"}
    assert seen == LatencyTable.load(table).networks.keys()


def test_larger_numbers_extend_the_table(nas, mini, mine):
    before = LatencyTable.load(mine)
    result = nas("profile", "--space", mini, "--out", mine, "--networks", 11, "--held-out", 5, "--seconds", 1, "--json")
    assert result.returncode == 0, result.stderr
    assert "which has 14 networks already" in result.stderr
    assert "to prepare 2 networks" in result.stderr
    assert json.loads(result.stdout)["networks"] == 16
    after = LatencyTable.load(mine)
    assert {digest: after.networks[digest] for digest in before.networks} == before.networks


def test_two_profiles_are_compared(nas, mine, tmp_path):
    result = nas("profile", "--compare", mine, mine)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "they agree"
    data = json.loads(mine.read_text())
    for item in data["networks"].values():
        item["measurement"]["median"] *= 1.5
    (tmp_path / "slow.json").write_text(json.dumps(data))
    result = nas("profile", "--compare", mine, tmp_path / "slow.json", "--json")
    assert result.returncode == 1
    found = json.loads(result.stdout)
    assert found["agree"] is False
    assert found["ratio"] == pytest.approx(1.5)


def test_a_comparison_takes_no_other_options_and_no_missing_table(nas, mine, fails):
    assert "--compare measures nothing; leave --networks away" in fails(
        nas("profile", "--compare", mine, mine, "--networks", 9), 2
    )
    assert "none.json" in fails(nas("profile", "--compare", mine, "none.json"), 1)


def test_the_table_of_another_library_is_refused_in_one_line(nas, mini, mine):
    data = json.loads(mine.read_text())
    data["environment"]["torch"] = "1.0"
    mine.write_text(json.dumps(data))
    result = nas("profile", "--space", mini, "--out", mine, "--networks", 10, "--held-out", 4, "--seconds", 1)
    assert result.returncode == 1
    assert "torch was 1.0, is" in result.stderr.splitlines()[-1]


def test_the_documented_runtime_of_another_package_is_a_target(mini, tmp_path):
    """The example of docs/targets.md, installed as a package and announced by its entry point."""
    python, toml = (re.search(rf"```{kind}\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1) for kind in ("python", "toml"))
    group, name, module = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(\w+)"', toml).groups()
    (tmp_path / f"{module}.py").write_text(python)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    arguments = ["--space", str(mini), "--target", "toychip:toy,precision=int4", "--networks", "8", "--held-out", "2"]
    found = subprocess.run(
        ["nas", "profile", *arguments, "--seconds", "1", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": _scripts()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    data = json.loads(found.stdout)
    assert data["target"] == "toychip:toy,threads=1,batch=1,precision=int4"
    path = tmp_path / data["table"]
    assert {line["version"] for line in read_samples(samples_path(path))} == {"toy 1.0"}


def _scripts() -> str:
    import sysconfig

    return f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
@pytest.mark.thorough
def test_a_search_for_int8_delivers_measures_and_scores_the_int8_file(nas, mini, tmp_path):
    target = "cpu:onnxruntime,precision=int8"
    profiled = nas(
        "profile", "--space", mini, "--target", target, "--networks", 8, "--held-out", 2, "--seconds", 2, "--out", "t.json"
    )
    assert profiled.returncode == 0, profiled.stderr
    numbers = ("--epochs", 1, "--evaluations", 4, "--finetune-epochs", 1, "--threads", 1, "--accept-noise", "--json")
    found = nas("search", "--space", mini, "--target", target, "--latency-table", "t.json", "--out", "run", *numbers)
    assert found.returncode == 0, found.stderr
    outcome = json.loads(found.stdout)
    assert 0 < outcome["int8"]["test"] <= 1
    assert outcome["int8"]["operators"].startswith("in int8: ")
    assert (tmp_path / "run" / "winner" / "backbone.int8.onnx").exists()
    assert json.loads(nas("report", "run", "--json").stdout)["int8"] == outcome["int8"]
    again = nas("export", "run", "--out", "again", "--formats", "int8")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "backbone.int8.onnx").exists()


def test_a_search_on_a_table_of_noise_stops_before_training_and_says_why(nas, mini, mine):
    data = json.loads(mine.read_text())
    for item in data["networks"].values():
        item["measurement"] |= {"spread": 0.9, "load": 64.0}
    mine.write_text(json.dumps(data))
    found = nas("search", "--space", mini, "--latency-table", mine, "--out", "run", "--threads", 1)
    assert found.returncode == 1
    line = found.stderr.splitlines()[-1]
    assert "spread by 90% of their median (limit 25%): other work uses the machine (load average 64.0" in line
    assert "accept the noise explicitly" in line
    assert "Supernet" not in found.stderr


@pytest.mark.slow
@pytest.mark.thorough
def test_a_search_does_without_what_the_target_refuses_and_says_so(nas, mini, mine, tmp_path):
    data = json.loads(mine.read_text())
    data["refused"] = {"token_mixer:depthwise_conv": {"reason": "no kernel", "share": 0.5}}
    mine.write_text(json.dumps(data))
    numbers = ("--epochs", 1, "--evaluations", 8, "--finetune-epochs", 1, "--threads", 1, "--accept-noise", "--json")
    found = nas("search", "--space", mini, "--latency-table", mine, "--out", "run", *numbers)
    assert found.returncode == 0, found.stderr
    assert "refuses token mixer 'depthwise_conv', which 50% of the architectures of 'mini' have" in found.stderr
    assert "left out of the space for this target (no kernel)" in found.stderr
    with Run.open(tmp_path / "run").archive() as archive:
        used = [operators_in(trial.architecture) for trial in archive.trials()]
    assert len(used) == 8
    assert all("token_mixer:depthwise_conv" not in operators for operators in used)
