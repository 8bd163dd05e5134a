"""What the tests of the command line share: a tiny space, its latency table, and one finished run, each made once."""

import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from nas.__main__ import run as run_command

NAS = str(Path(sysconfig.get_path("scripts")) / "nas")
SPACE = """\
preset: tiny
name: mini
stems: [patchify]
stem_stride: 4
downsamples: [conv]
norms: [layer, batch]
depths: [[1], [1]]
widths: [[8], [16]]
mixers: [[pooling, depthwise_conv], [pooling, depthwise_conv, linear_attention]]
partners: [pooling]
splits: [1.0]
channel_mixers: [mlp]
placements: [free]
"""
EVALUATIONS, EPOCHS = 48, 2


class Cli:
    """The `nas` command, in this process (fast) or in one of its own (to be killed)."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        self.capfd.readouterr()
        code = run_command([str(argument) for argument in arguments])
        out, err = self.capfd.readouterr()
        return subprocess.CompletedProcess(list(map(str, arguments)), code, out, err)


@pytest.fixture
def nas(capfd, tmp_path, monkeypatch):
    """Runs a command line in this process, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Cli(capfd)


@pytest.fixture(scope="session")
def start():
    """Starts a command line in a process of its own, to be waited for, stopped or killed."""
    return start_nas


def start_nas(*arguments: object, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    restore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([NAS, *map(str, arguments)], env=environment, **pipes, **restore)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)`: the folder that `make(folder)` filled, made by one process of the test session for all."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / f"cli-{name}", root / f"cli-{name}.done"
        with FileLock(root / f"cli-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def mini(once):
    """The YAML file of a space of some thousand networks of two blocks."""
    return once("space", lambda folder: (folder / "mini.yaml").write_text(SPACE) and None) / "mini.yaml"


@pytest.fixture(scope="session")
def table(once, mini):
    """A latency table of the tiny space, made by `nas profile`, with its two outputs beside it."""

    def make(folder: Path) -> None:
        arguments = ("profile", "--space", mini, "--out", folder / "table.json", "--networks", 10, "--held-out", 4)
        out, err = finish(start_nas(*arguments, "--seconds", 3))
        (folder / "stdout").write_text(out)
        (folder / "stderr").write_text(err)

    return once("table", make) / "table.json"


@pytest.fixture(scope="session")
def request_of(mini, table):
    """The arguments of the search that all runs of these tests repeat."""
    numbers = ("--epochs", EPOCHS, "--evaluations", EVALUATIONS, "--finetune-epochs", 1, "--threads", 1, "--seed", 3)
    return ("search", "--space", mini, "--latency-table", table, "--budget-latency", "50ms", "--accept-noise", *numbers)


@pytest.fixture(scope="session")
def reference(once, request_of):
    """The folder of a run that nothing interrupted; `run/` in it, with what it printed beside."""

    def make(folder: Path) -> None:
        out, err = finish(start_nas(*request_of, "--out", folder / "run"))
        (folder / "stdout").write_text(out)
        (folder / "stderr").write_text(err)

    return once("reference", make)


@pytest.fixture
def copied(reference, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(reference / "run", tmp_path / "copied"))


@pytest.fixture
def unfinished(copied):
    """A copy of the run as it was before its last phase."""
    (copied / "summary.json").unlink()
    shutil.rmtree(copied / "winner")
    return copied


@pytest.fixture
def fails():
    """`fails(result, code)`: the one line that a failed command wrote to stderr, with no traceback and no output."""

    def check(result: subprocess.CompletedProcess[str], code: int) -> str:
        lines = result.stderr.splitlines()
        assert result.returncode == code, result.stderr
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert result.stdout == ""
        return lines[0]

    return check


@pytest.fixture(scope="session")
def trained(once, mini, start):
    """The folder of a supernet trained by `nas train`, with what it printed beside."""

    def make(folder):
        arguments = ("--space", mini, "--epochs", EPOCHS, "--train-images", 200, "--validation-images", 100, "--threads", 1)
        process = start("train", *arguments, "--strategy", "alpha", "--set", "ema=0.9", "--json", "--out", folder / "run")
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        (folder / "stdout").write_text(out)
        (folder / "stderr").write_text(err)

    return once("trained", make)
