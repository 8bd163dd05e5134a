from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from nas.errors import FileError, NasError, UsageError
from nas.search.archive import Archive
from nas.search.types import FAILED, Budgets, Trial

OBJECTIVES = ("accuracy", "latency")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture
def trials(problem, fake):
    rng = random.Random(0)
    return [fake.finished(problem, number, problem.space.sample(rng)) for number in range(6)]


def filled(path, space, trials):
    with Archive(path, space, OBJECTIVES) as archive:
        for trial in trials:
            archive.add(trial)


def test_what_was_added_is_read_back_by_number(path, problem, trials):
    failed = Trial(9, problem.space.smallest(), FAILED, {"params": 5.0}, "RuntimeError: boom")
    filled(path, problem.space, [failed, *reversed(trials)])
    assert Archive(path, problem.space, OBJECTIVES).trials() == [*trials, failed]


def test_optuna_reads_values_genes_and_constraints(path, problem, trials):
    budgets = Budgets({"latency": 1e-4, "params": 1e9})
    with Archive(path, problem.space, OBJECTIVES, budgets) as archive:
        archive.add(trials[0])
        archive.add(Trial(1, problem.space.smallest(), FAILED, {}, "boom"))
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="nas", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == list(OBJECTIVES)
    frozen, failed = study.trials
    genes = problem.space.encode(trials[0].architecture)
    assert frozen.values == [trials[0].metrics["accuracy"], trials[0].metrics["latency"]]
    assert {"stem", "s0b0.mixer"} <= frozen.params.keys()
    assert frozen.params.items() <= genes.items()
    assert frozen.constraints == {
        "latency": pytest.approx(trials[0].metrics["latency_upper"] - 1e-4),
        "params": pytest.approx(trials[0].metrics["params"] - 1e9),
    }
    assert frozen.user_attrs["digest"] == trials[0].architecture.digest
    assert (failed.state.name, failed.values) == ("FAIL", None)


def test_a_number_or_an_architecture_is_recorded_once(path, problem, trials):
    filled(path, problem.space, trials[:2])
    with Archive(path, problem.space, OBJECTIVES) as archive:
        with pytest.raises(NasError, match="trial 1 is recorded already"):
            archive.add(trials[1])
        with pytest.raises(NasError, match="recorded already, as trial 0"):
            archive.add(Trial(7, trials[0].architecture, "complete", trials[0].metrics))
        assert len(archive) == 2


@pytest.mark.parametrize("tail", ["half a record", "no end of line", "zeros", "a line that is no record"])
def test_a_torn_last_line_loses_no_earlier_trial(path, problem, trials, tail):
    filled(path, problem.space, trials[:4])
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(
        {
            "half a record": whole + lines[-1][:77],
            "no end of line": whole[:-1],
            "zeros": whole + b"\0" * 4096,
            "a line that is no record": whole + lines[-1][:30] + b"}\n",
        }[tail]
    )
    kept = 3 if tail == "no end of line" else 4
    assert len(Archive(path, problem.space, OBJECTIVES)) == kept
    with Archive(path, problem.space, OBJECTIVES) as archive:
        for trial in trials[kept:]:
            archive.add(trial)
    assert Archive(path, problem.space, OBJECTIVES).trials() == trials


def test_an_archive_torn_at_any_byte_opens_and_goes_on(path, problem, trials):
    filled(path, problem.space, trials[:2])
    whole = path.read_bytes()
    for cut in [*range(0, 1200, 97), *range(1200, len(whole), 1499)]:
        path.write_bytes(whole[:cut])
        with Archive(path, problem.space, OBJECTIVES) as archive:
            known = len(archive)
            archive.add(trials[5])
        assert Archive(path, problem.space, OBJECTIVES).trials() == [*trials[:known], trials[5]]


def test_a_lock_left_by_a_killed_process_does_not_block(path, problem, trials):
    filled(path, problem.space, trials[:1])
    Path(f"{path}.lock").symlink_to("/nowhere/study.journal")
    start = time.monotonic()
    filled(path, problem.space, trials[1:2])
    assert time.monotonic() - start < 20
    assert len(Archive(path, problem.space, OBJECTIVES)) == 2


WRITER = """
import random, sys
sys.path.insert(0, sys.argv[2])
from conftest import describe, finished, small_space
from nas.search.archive import Archive
from nas.search.types import Problem
problem = Problem(small_space(), describe, objectives=("accuracy", "latency"))
rng, number = random.Random(0), 0
with Archive(sys.argv[1], problem.space, problem.objectives) as archive:
    while True:
        architecture = problem.space.sample(rng)
        if architecture.digest not in archive._digests:
            archive.add(finished(problem, number, architecture))
            print(number, flush=True)
            number += 1
"""


def test_a_writer_killed_while_it_writes_loses_nothing_it_had_reported(path, problem, trials):
    for attempt in range(3):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            reported = [int(next(writer.stdout)) for _ in range(5 + 7 * attempt)]
            os.kill(writer.pid, signal.SIGKILL)
        with Archive(path, problem.space, OBJECTIVES) as archive:
            numbers = [trial.number for trial in archive.trials()]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > reported[-1]
            archive.add(Trial(10_000, problem.space.largest(), FAILED, {}, "after the kill"))
        assert len(Archive(path, problem.space, OBJECTIVES)) == len(numbers) + 1


def test_two_searches_do_not_write_to_one_archive(path, problem, trials, monkeypatch):
    monkeypatch.setattr("nas.search.journal.PATIENCE", 0.05)
    filled(path, problem.space, trials[:1])
    with Archive(path, problem.space, OBJECTIVES) as first:
        first.add(trials[1])
        second = Archive(path, problem.space, OBJECTIVES)
        assert len(second) == 2
        with pytest.raises(FileError, match="another search is writing"):
            second.claim()
    second.add(trials[2])


@pytest.mark.parametrize("stopped", [True, False])
def test_an_interrupt_while_the_lock_is_taken_off_is_no_full_disk(path, problem, trials, monkeypatch, stopped):
    archive = Archive(path, problem.space, OBJECTIVES)

    def write(trial):
        try:
            if stopped:
                raise KeyboardInterrupt
        finally:  # as Optuna's lock does, which takes a file away that is gone already
            os.unlink(path.with_name("gone"))

    monkeypatch.setattr(archive, "_write", write)
    with pytest.raises(KeyboardInterrupt if stopped else FileError):
        archive.add(trials[0])


def test_a_reader_that_becomes_the_writer_sees_what_was_written_meanwhile(path, problem, trials):
    filled(path, problem.space, trials[:1])
    late = Archive(path, problem.space, OBJECTIVES)
    filled(path, problem.space, trials[1:3])
    late.claim()
    assert late.trials() == trials[:3]


@pytest.mark.parametrize("content", [b"hello", b"a: 1\nb: 2\n", b"\x89PNG\r\n\x1a\n\x00", b'{"op_code"', b'{"a":1}\n'])
def test_a_foreign_file_is_refused_in_one_line_and_left_alone(path, problem, content):
    path.write_bytes(content)
    if content == b'{"op_code"':
        assert Archive(path, problem.space).trials() == []
        return
    with pytest.raises(FileError, match="is no archive of a search") as caught:
        Archive(path, problem.space)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("records", [None, 0, 1])
def test_a_mere_reader_writes_nothing_where_no_search_has_begun(path, problem, trials, records):
    if records is not None:
        filled(path, problem.space, trials[:1])
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:records]))
    before = path.read_bytes() if path.exists() else None
    with Archive(path, problem.space, OBJECTIVES, identity="a run", reading=True) as archive:
        assert archive.trials() == []
        with pytest.raises(NasError, match="opened for reading alone"):
            archive.add(trials[0])
    assert (path.read_bytes() if path.exists() else None) == before
    with Archive(path, problem.space, OBJECTIVES, identity="a run") as archive:
        archive.add(trials[0])
    with pytest.raises(FileError, match="the candidates of another run"):
        Archive(path, problem.space, OBJECTIVES, identity="another", reading=True)
    assert Archive(path, problem.space, OBJECTIVES, reading=True).trials() == trials[:1]


def test_a_mere_reader_leaves_a_database_without_a_search_as_it_is(tmp_path, problem):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    assert Archive(url, problem.space, OBJECTIVES, reading=True).trials() == []
    assert optuna.get_all_study_names(url) == []


def test_damage_in_the_middle_is_named_and_nothing_is_cut_off(path, problem, trials):
    filled(path, problem.space, trials)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:4], lines[4][:50] + b"\n", *lines[5:]])
    path.write_bytes(damaged)
    with pytest.raises(FileError, match="damaged in line 5"):
        Archive(path, problem.space, OBJECTIVES)
    assert path.read_bytes() == damaged


def test_the_archive_of_another_space_or_other_objectives_is_refused(path, problem, fake, trials):
    filled(path, problem.space, trials[:1])
    with pytest.raises(FileError, match="is an archive of space 'small', not of this 'other'"):
        Archive(path, fake.space(name="other"), OBJECTIVES)
    with pytest.raises(FileError, match="another version of space 'small'"):
        Archive(path, fake.space(norms=("layer",)), OBJECTIVES)
    with pytest.raises(FileError, match="has the objectives accuracy, latency, not accuracy"):
        Archive(path, problem.space)


def test_a_study_of_another_program_is_refused(path, problem):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    optuna.create_study(study_name="mine", storage=storage)
    with pytest.raises(FileError, match="holds the Optuna study 'mine'"):
        Archive(path, problem.space)


def test_another_storage_is_named_by_its_url(tmp_path, problem, trials):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    filled(url, problem.space, trials)
    assert Archive(url, problem.space, OBJECTIVES).trials() == trials
    with pytest.raises(UsageError, match="unknown kind of storage 'nosuch'"):
        Archive("nosuch://place", problem.space)


def test_metrics_that_are_no_numbers_are_left_out(path, problem, trials):
    odd = Trial(0, trials[0].architecture, "complete", {"accuracy": 0.5, "latency": 0.1, "seconds": float("nan")})
    filled(path, problem.space, [odd])
    assert Archive(path, problem.space, OBJECTIVES).trials()[0].metrics == {"accuracy": 0.5, "latency": 0.1}
