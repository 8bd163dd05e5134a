"""A storage's password: used, never written down, and asked for in one line where it is missing."""

import pytest
import yaml
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from nas.search import storage

pytestmark = pytest.mark.slow
SECRET = "hun'ter 2"
WRITTEN = "hun'ter%202"
URL = f"postgresql://me:{WRITTEN}@host/x?connect_timeout=3"
BARE = "postgresql://me@host/x?connect_timeout=3"


@pytest.fixture(autouse=True)
def server(tmp_path_factory, monkeypatch):
    """A server that wants the password; behind it lies a file. Nothing is remembered from one command to the next."""
    real, file = storage.RDBStorage, tmp_path_factory.mktemp("server") / "x.db"

    def opened(url, **options):
        if make_url(url).password != SECRET:
            raise OperationalError("connect", {}, Exception("fe_sendauth: no password supplied"))
        return real(f"sqlite:///{file}", **options)

    monkeypatch.setattr(storage, "RDBStorage", opened)
    monkeypatch.setattr("nas.results.verification._SECONDS", 0.3)
    monkeypatch.setattr("nas.results.feasibility._SECONDS_EACH", 0.02)


@pytest.fixture
def forgetful(nas, monkeypatch):
    """The `nas` command as processes of their own run it: each knows its own command line alone."""

    def run(*arguments):
        monkeypatch.setattr(storage, "_GIVEN", {})
        monkeypatch.setattr("sys.argv", ["nas", *map(str, arguments)])
        return nas(*arguments)

    return run


def holding(folder):
    """The files below a folder that hold the password, as it is or as it was written."""
    words = [word.encode() for word in (SECRET, WRITTEN, "hun'\"'\"'ter")]
    return [path for path in folder.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in words)]


def stopped(*_):
    """What comes after the search, with a hand on the interrupt key."""
    raise KeyboardInterrupt


def test_no_file_of_a_run_has_its_password_and_resuming_takes_it_from_elsewhere(forgetful, reference, tmp_path, monkeypatch):
    run = tmp_path / "run"
    table = reference / "run" / "latency" / "table.json"
    usual = ("--supernet", reference / "run", "--latency-table", table, "--accept-noise", "--finetune-epochs", 0)
    wanted = ("--budget-latency", "2s", "--evaluations", 3, "--threads", 1)
    with monkeypatch.context() as patch:
        patch.setattr("nas.results.pipeline.Selection", stopped)
        found = forgetful("search", *usual, *wanted, "--storage", URL, "--out", run)
    assert found.stderr.splitlines()[-1].startswith("error: stopped; nothing is lost"), found.stderr
    assert holding(run) == []
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["storage"] == BARE
    assert BARE in config["command"]
    assert SECRET not in found.stdout + found.stderr

    refused = forgetful("search", "--resume", run)
    assert refused.returncode == 1
    line = refused.stderr.splitlines()[-1]
    assert f"cannot open the storage {BARE}: fe_sendauth: no password supplied" in line
    assert "give it by NAS_STORAGE_PASSWORD, PGPASSWORD, ~/.pgpass or --storage" in line
    assert not (run / "summary.json").exists()

    other = forgetful("search", "--resume", run, "--storage", URL.replace("host", "elsewhere"))
    assert other.returncode == 2
    assert f"the run keeps its candidates in {BARE}, not in postgresql://me:***@elsewhere/x" in other.stderr
    told = forgetful("search", "--resume", run, "--storage", URL)
    assert told.returncode == 0, told.stderr
    assert BARE in (run / "report.html").read_text()
    assert holding(run) == []

    assert forgetful("front", run).returncode == 1
    monkeypatch.setenv("NAS_STORAGE_PASSWORD", SECRET)
    front = forgetful("front", run)
    assert front.returncode == 0, front.stderr
    assert "of 3 candidates" in front.stdout


def test_the_password_in_a_run_of_before_is_used_and_leaves_its_file(forgetful, unfinished, monkeypatch):
    path = unfinished / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "storage": URL, "command": f"nas search --storage '{URL}'"}))
    assert holding(unfinished) == [path]
    found = forgetful("front", unfinished)
    assert found.returncode == 0, found.stderr
    monkeypatch.setattr("nas.results.pipeline.SearchRun.require_feasible", stopped)
    assert forgetful("search", "--resume", unfinished).stderr.splitlines()[-1].startswith("error: stopped")
    assert holding(unfinished) == []
