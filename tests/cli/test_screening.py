"""A search whose candidates are screened by a zero-cost proxy, and searches on one database, from the command line."""

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
def searched(nas, reference, tmp_path):
    """Runs a short search of another run's supernet: what it printed, and the run."""
    table = reference / "run" / "latency" / "table.json"
    usual = (
        "--supernet",
        reference / "run",
        "--latency-table",
        table,
        "--accept-noise",
        "--finetune-epochs",
        1,
        "--threads",
        1,
    )

    def search(name, *options):
        wanted = ("--budget-latency", "2s", "--evaluations", EVALUATIONS, "--out", tmp_path / name)
        found = nas("search", *usual, *wanted, *options)
        assert found.returncode == 0, found.stderr
        return found, package.Run.open(tmp_path / name)

    return search


def trials(run):
    with run.archive() as archive:
        return archive.trials()


def plain(trials):
    return [(t.number, t.architecture, t.state, {k: v for k, v in t.metrics.items() if "seconds" not in k}) for t in trials]


def test_what_a_proxy_turned_down_is_told_resumed_and_never_on_the_front(nas, searched):
    found, run = searched("run", "--screen", 32, "--screen-by", "naswot", "--promote", 0.5)
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


@pytest.mark.thorough
def test_a_second_search_on_a_database_finds_everything_done(nas, searched, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    _, first = searched("first", "--storage", url)
    _, second = searched("second", "--storage", url)
    assert len(trials(first)) == EVALUATIONS
    assert trials(first) == trials(second)
    assert not second.journal.exists()
    assert first.summary()["digest"] == second.summary()["digest"]
    assert url in second.report_path.read_text()
    assert f"of {EVALUATIONS} candidates" in nas("front", first.path, second.path).stdout
