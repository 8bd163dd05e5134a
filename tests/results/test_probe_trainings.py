"""Probes trained alone: what fails is kept with its reason, what lacked memory is tried again, and one process trains them."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

import nas
from nas.errors import DivergedError, FileError
from nas.files import sole_writer
from nas.progress import Silent
from nas.results.ranking.ranking import RankOptions
from nas.results.ranking.standalone import ProbeTrainer
from nas.results.ranking.trainings import ProbeTrainings
from nas.search_spaces.architecture import Architecture
from nas.supernet.data import DataSplits, load_data
from nas.supernet.finetune import FinetuneRecipe

SPACE = nas.load_space("tiny")
PROBES = [SPACE.sample(random.Random(seed)) for seed in range(4)]


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


FAILS: Mapping[str, tuple[Callable[[], object], str]] = {
    "lost loss": (raising(DivergedError("the loss is nan at step 3")), "the loss is nan at step 3"),
    "torch on a CPU": (lambda: torch.empty(2**60, dtype=torch.uint8), "memory ran out ([enforce fail"),
    "Python": (lambda: bytearray(2**62), "memory ran out (MemoryError): the same command tries again"),
    "torch on a GPU": (raising(torch.OutOfMemoryError("Tried to allocate 2 GiB")), "memory ran out (Tried to allocate 2 GiB)"),
    "a library on a GPU": (raising(RuntimeError("CUDA error: out of memory")), "memory ran out (CUDA error: out of memory)"),
    "C++": (raising(RuntimeError("std::bad_alloc")), "memory ran out (std::bad_alloc)"),
}
PASSES = {
    "interrupt key": KeyboardInterrupt(),
    "told full disk": FileError("cannot write the checkpoint: No space left on device; free some space"),
    "full disk": OSError(errno.ENOSPC, "No space left on device"),
    "mistake": RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
}


class Notes(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def data() -> DataSplits:
    return load_data("digits", 16)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Callable[[], object]]], list[str]]:
    """`trained({digest: act})` puts acts in the place of some trainings and numbers in that of the others; tells who was."""

    def become(acts: Mapping[str, Callable[[], object]]) -> list[str]:
        calls: list[str] = []

        def train(_: ProbeTrainer, architecture: Architecture) -> Mapping[str, float]:
            calls.append(architecture.digest)
            acts.get(architecture.digest, int)()
            return {"accuracy": 0.5, "loss": 1.0}

        monkeypatch.setattr(ProbeTrainer, "_trained", train)
        return calls

    return become


def trainings(data: DataSplits, folder: Path, notes: Notes | None = None, **options: int) -> ProbeTrainings:
    return ProbeTrainings(data, RankOptions(recipe=FinetuneRecipe(), **options), folder, notes or Notes())


@pytest.mark.parametrize("case", FAILS)
def test_a_failed_probe_is_kept_with_its_reason_and_the_others_are_trained(data, trained, tmp_path, case):
    act, reason = FAILS[case]
    calls, notes = trained({PROBES[1].digest: act}), Notes()
    found = trainings(data, tmp_path, notes)(PROBES)
    assert [dict(each.accuracies) for each in found] == [{"0": 0.5}, {}, {"0": 0.5}, {"0": 0.5}]
    assert notes.lines[-1].startswith(f"training failed of 1 of 4 probes, the first: {reason}")
    (path,) = tmp_path.rglob(f"{PROBES[1].digest}.json")
    told = json.loads(path.read_text())
    assert told["error"].startswith(reason)
    assert "accuracy" not in told
    assert "\n" not in told["error"]
    assert [each.accuracies for each in trainings(data, tmp_path)(PROBES)] == [each.accuracies for each in found]
    tried_again = [] if case == "lost loss" else [PROBES[1].digest]
    assert calls == [each.digest for each in PROBES] + tried_again


@pytest.mark.parametrize("case", PASSES)
def test_what_may_go_well_the_next_time_marks_no_probe_failed(data, trained, tmp_path, case):
    trained({PROBES[1].digest: raising(PASSES[case])})
    with pytest.raises(type(PASSES[case])):
        trainings(data, tmp_path)(PROBES)
    assert [path.stem for path in tmp_path.rglob("*.json")] == [PROBES[0].digest]
    trained({})
    assert all(each.accuracies for each in trainings(data, tmp_path)(PROBES))


def test_probes_that_another_process_trains_are_left_to_it_before_those_of_other_seeds_are_trained(data, trained, tmp_path):
    calls, mine = trained({}), trainings(data, tmp_path, seeds=2)
    theirs = tmp_path / mine.trainers[1].identity
    with sole_writer(theirs), pytest.raises(FileError, match=f"another process is writing {theirs}; wait for it"):
        mine(PROBES)
    assert calls == []
    assert [len(each.accuracies) for each in mine(PROBES)] == [2, 2, 2, 2]
    assert len(calls) == 8
    assert not list(tmp_path.rglob(".*"))


def test_probes_that_are_there_are_read_beside_another_process_and_other_recipes_are_trained_beside_it(data, trained, tmp_path):
    calls, mine = trained({}), trainings(data, tmp_path)
    mine(PROBES)
    with sole_writer(tmp_path / mine.trainers[0].identity):
        assert all(each.accuracies for each in mine(PROBES))
        assert len(calls) == 4
        assert all(each.accuracies for each in trainings(data, tmp_path, threads=2)(PROBES))
    assert len(calls) == 8
