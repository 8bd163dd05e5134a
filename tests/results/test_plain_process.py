"""Networks that are slower in a program that gives its memory back."""

import random
import subprocess
from types import SimpleNamespace

import pytest

from nas.predictors.allocator import USUAL, memory_policy
from nas.predictors.target import Target
from nas.results import plain_process, selection
from nas.results.export import export
from nas.results.plain_process import plain_process_note
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space

MEMBER = load_space("tiny").sample(random.Random(0))
EAGER = Target.parse("cpu:eager")
glibc = pytest.mark.skipif(memory_policy() == USUAL, reason="the C library is not glibc")


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(plain_process, "LEAST_BYTES", 0)


def answers(monkeypatch, output):
    def run(command, **options):
        if isinstance(output, Exception):
            raise output
        return subprocess.CompletedProcess(command, 0, stdout=output, stderr="")

    monkeypatch.setattr(plain_process.subprocess, "run", run)


@glibc
def test_a_fresh_process_tells_how_much_slower_the_exported_network_is(tmp_path, large, monkeypatch):
    monkeypatch.setattr(plain_process, "NOTEWORTHY", 0.0)
    export(
        build(MEMBER, 10, 3).eval(), tmp_path / "net", num_classes=10, in_channels=3, formats=("json", "safetensors", "python")
    )
    told = plain_process_note(tmp_path / "net", EAGER, MEMBER, 10, 3)
    assert told is not None
    ratio = float(told.partition("takes ")[2].partition(" times")[0])
    assert 0.3 < ratio < 3
    assert "MALLOC_" in told


@glibc
def test_only_what_is_slower_is_told(tmp_path, large, monkeypatch):
    answers(monkeypatch, "2.13\n")
    assert "2.13 times as long" in plain_process_note(tmp_path, EAGER, MEMBER, 10, 3)
    answers(monkeypatch, "1.02\n")
    assert plain_process_note(tmp_path, EAGER, MEMBER, 10, 3) is None


@glibc
@pytest.mark.parametrize(
    "lost", [OSError("no process"), subprocess.TimeoutExpired("python", 1), subprocess.CalledProcessError(1, "x")]
)
def test_a_process_that_fails_says_nothing(tmp_path, large, monkeypatch, lost):
    answers(monkeypatch, lost)
    assert plain_process_note(tmp_path, EAGER, MEMBER, 10, 3) is None


@pytest.mark.parametrize("target", ["cpu:onnxruntime", "cuda:eager", "cpu:compile", "cpu:eager@ray:pi"])
def test_targets_that_keep_their_memory_are_not_asked(tmp_path, large, monkeypatch, target):
    answers(monkeypatch, AssertionError("asked"))
    assert plain_process_note(tmp_path, Target.parse(target), MEMBER, 10, 3) is None


def test_small_networks_are_not_asked(tmp_path, monkeypatch):
    answers(monkeypatch, AssertionError("asked"))
    assert plain_process_note(tmp_path, EAGER, MEMBER, 10, 3) is None


def test_the_winner_bears_the_note_of_each_target_that_has_one(tmp_path, monkeypatch):
    onnx = Target.parse("cpu:onnxruntime")
    monkeypatch.setattr(selection, "plain_process_note", lambda folder, target, *_: "slower" if target == EAGER else None)
    targets = {"latency": SimpleNamespace(target=EAGER), "latency@other": SimpleNamespace(target=onnx)}
    run = SimpleNamespace(folder=SimpleNamespace(winner_path=tmp_path), outputs=(10, 3), targets=targets)
    assert selection.Selection(run, lambda *_: None)._notes(MEMBER) == (f"{EAGER}: slower",)
