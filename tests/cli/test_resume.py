"""A run that is killed or stopped at any moment, resumed, ends as the run that nothing interrupted."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import nas as package
from nas.supernet.checkpoint import read_progress

pytestmark = pytest.mark.slow

CHECKPOINT = Path("supernet", "checkpoint.safetensors")


def interrupted(process: subprocess.Popen[str], when: Callable[[], bool], how: signal.Signals) -> tuple[int, str, str]:
    """Send `how` as soon as `when()` holds; the exit code and what was printed."""
    deadline = time.monotonic() + 240
    try:
        while not when():
            assert process.poll() is None, f"ended before it could be interrupted: {process.communicate()[1]}"
            assert time.monotonic() < deadline, "never got as far"
            time.sleep(0.003)
        process.send_signal(how)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def records(journal: Path) -> int:
    return journal.read_bytes().count(b'"digest"') if journal.exists() else 0


def trials_of(run: Path) -> list[dict[str, Any]]:
    """What a run knows of each candidate, and how long it took, which tells one evaluation from another."""
    with package.Run.open(run).archive() as archive:
        return [
            {"number": trial.number, "digest": trial.architecture.digest, "state": trial.state, **trial.metrics}
            for trial in archive.trials()
        ]


def without_clock(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in trials]


@pytest.fixture(scope="session")
def story(once, request_of, start, table):
    """A run killed in training, stopped in the search, killed in the search, killed in the verification, then finished.

    `facts.json` beside it tells what was there after each interruption.
    """

    def tell(folder: Path) -> None:
        run, facts = folder / "run", {}
        journal, resume = run / "study.journal", ("search", "--resume", run)

        def leg(name: str, arguments: tuple[object, ...], when: Callable[[], bool], how: signal.Signals) -> None:
            code, out, err = interrupted(start(*arguments), when, how)
            shutil.copytree(run, folder / name)
            facts[name] = {"code": code, "out": out, "err": err}

        leg("in-training", (*request_of, "--out", run), (run / CHECKPOINT).exists, signal.SIGKILL)
        leg("stopped-in-search", resume, lambda: records(journal) >= 8, signal.SIGINT)
        known = records(journal)
        leg("killed-in-search", resume, lambda: records(journal) >= known + 8, signal.SIGKILL)
        leg("in-verification", resume, (run / "verification.json").exists, signal.SIGKILL)
        out, err = start(*resume).communicate(timeout=240)
        facts["finished"] = {"out": out, "err": err}
        (folder / "facts.json").write_text(json.dumps(facts))

    return once("story", tell)


@pytest.fixture
def facts(story):
    return json.loads((story / "facts.json").read_text())


def test_the_candidates_are_those_of_the_uninterrupted_run(story, reference):
    ours, theirs = trials_of(story / "run"), trials_of(reference / "run")
    assert len(theirs) == 48
    assert without_clock(ours) == without_clock(theirs)


def test_the_supernet_and_the_winner_have_the_same_weights_bit_for_bit(story, reference):
    for path in (CHECKPOINT, Path("winner", "weights.safetensors")):
        ours, theirs = load_file(story / "run" / path), load_file(reference / "run" / path)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in theirs), path


def test_the_outcome_is_the_same(story, reference):
    ours, theirs = (json.loads((folder / "run" / "summary.json").read_text()) for folder in (story, reference))
    for name in ("digest", "accuracy_test", "accuracy_validation", "params", "macs", "evaluations", "verified"):
        assert ours[name] == theirs[name], name


def test_a_run_killed_in_training_repeats_no_finished_epoch(story, facts):
    before = read_progress(story / "in-training" / CHECKPOINT)
    after = read_progress(story / "run" / CHECKPOINT)
    assert facts["in-training"]["code"] == -signal.SIGKILL
    assert [len(progress["history"]) for progress in (before, after)] == [1, 2]
    assert not (story / "in-training" / "study.journal").exists() or records(story / "in-training" / "study.journal") == 0
    assert after["history"][0] == before["history"][0], "the first epoch, its seconds included, was trained once"


@pytest.mark.parametrize("leg", ["stopped-in-search", "killed-in-search", "in-verification"])
def test_a_run_interrupted_later_repeats_no_recorded_candidate(story, leg):
    before, after = trials_of(story / leg), trials_of(story / "run")
    assert len(before) >= 8
    assert len(before) < 48 or leg == "in-verification"
    assert after[: len(before)] == before, "the seconds of an evaluation tell that it was done once"


def test_a_run_killed_in_the_verification_measures_no_network_twice(story):
    before, after = (json.loads((story / leg / "verification.json").read_text()) for leg in ("in-verification", "run"))
    assert after[: len(before)] == before
    measured = [verdict["digest"] for verdict in after if not verdict["final"]]
    assert len(measured) == len(set(measured))


def test_control_c_says_in_one_line_how_to_go_on(story, facts):
    stopped = facts["stopped-in-search"]
    assert stopped["code"] == 1
    assert stopped["out"] == ""
    lines = stopped["err"].splitlines()
    assert lines[-1] == f"error: stopped; nothing is lost: `nas search --resume {story / 'run'}` goes on"
    assert "Traceback" not in stopped["err"]
    assert "" not in lines


def test_the_finished_run_tells_what_the_uninterrupted_one_tells(facts, reference):
    ours, theirs = facts["finished"]["out"], (reference / "stdout").read_text()
    assert ours.splitlines()[0] == theirs.splitlines()[0]
    assert "error" not in facts["finished"]["err"].replace("mean error", "")
