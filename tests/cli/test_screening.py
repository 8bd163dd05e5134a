"""A search whose candidates are screened by a zero-cost proxy, from the command line."""

import json

import pytest

import nas as package
from nas.search.types import COMPLETE, PASSED_OVER

pytestmark = pytest.mark.slow
EVALUATIONS = 10


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr("nas.results.verification._SECONDS", 0.3)
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)


@pytest.fixture
def proxied(nas, reference, tmp_path):
    """A search of another supernet's weights, by a proxy."""
    options = ("--budget-latency", "2s", "--strategy", "evolution", "--screen", 32, "--screen-by", "naswot", "--promote", 0.5)
    table = reference / "run" / "latency" / "table.json"
    found = nas(
        "search", "--supernet", reference / "run", "--latency-table", table, "--accept-noise", "--finetune-epochs", 1,
        "--threads", 1, *options, "--evaluations", EVALUATIONS, "--out", tmp_path / "run",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found, package.Run.open(tmp_path / "run")


def trials(run):
    with run.archive() as archive:
        return archive.trials()


def plain(trials):
    return [(t.number, t.architecture, t.state, {k: v for k, v in t.metrics.items() if "seconds" not in k}) for t in trials]


def test_what_a_proxy_turned_down_is_told_resumed_and_never_on_the_front(nas, proxied):
    found, run = proxied
    whole = trials(run)
    assert {trial.state for trial in whole} == {COMPLETE, PASSED_OVER}
    full = [trial for trial in whole if trial.full]
    told = run.summary()["screening"]
    assert (told["candidates"], told["full"]) == (EVALUATIONS, len(full))
    assert told["scored"] == len(full) * told["images"] == sum(trial.metrics["images"] for trial in whole)
    assert told["seconds"] == pytest.approx(sum(trial.metrics["screening_seconds"] for trial in whole))
    line = f"{len(full)} of {EVALUATIONS} candidates scored on all {told['images']} validation images"
    assert line in found.stdout
    assert "for the proxy" in found.stdout
    assert line in run.report_path.read_text()
    front = json.loads(nas("front", run.path, "--json").stdout)["front"]
    assert {row["digest"] for row in front} <= {trial.architecture.digest for trial in full}

    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    run.summary_path.unlink()
    assert 0 < len(trials(run)) < EVALUATIONS
    again = nas("search", "--resume", run.path, "--accept-noise")
    assert again.returncode == 0, again.stderr
    assert plain(trials(run)) == plain(whole)
