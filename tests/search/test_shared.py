"""Several processes on one database, SQLite's or a server's: all numbers and architectures are evaluated once, whoever dies."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import NasError
from nas.search import loop, reservations
from nas.search.archive import Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.strategies.local_search import LocalSearch
from nas.search.types import Trial

COUNT = itertools.count()
EVALUATIONS = 24
WORKER = """
import os, sys
sys.path.insert(0, sys.argv[2])
from conftest import describe, evaluate, small_space
from nas.search import loop, strategy
from nas.search.archive import Archive
from nas.search.executors.local import LocalExecutor
from nas.search.types import Budgets, Problem
loop.POLL = 0.05
problem = Problem(small_space(), describe, Budgets({"latency": 1.6e-3}))
def evaluated(text):
    metrics = evaluate(text)
    print(metrics["accuracy"], flush=True)
    return metrics
with Archive(sys.argv[1], problem.space, problem.objectives, problem.budgets) as archive:
    found = strategy.create("evolution", problem, 0)
    loop.run_search(problem, found, archive, LocalExecutor(evaluated), evaluations=int(sys.argv[3]))
    assert len(archive) == int(sys.argv[3])
"""


@pytest.fixture(scope="session")
def server():
    """The address of a PostgreSQL server, which `pip install pgserver psycopg[binary]` is enough for."""
    pgserver, _ = pytest.importorskip("pgserver"), pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="nas-postgresql-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        found = pgserver.get_server(Path(folder) / "data")
        yield found.get_uri()
        found.cleanup()


@pytest.fixture
def empty(request, tmp_path):
    """The URL of a database without tables: a file, and a server's where one is installed."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    psycopg = pytest.importorskip("psycopg")
    uri, name = request.getfixturevalue("server"), f"study{next(COUNT)}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return uri.replace("/postgres?", f"/{name}?")


def pytest_generate_tests(metafunc):
    if "empty" in metafunc.fixturenames:
        metafunc.parametrize("empty", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def url(empty, problem):
    with Archive(empty, problem.space):
        return empty


def worker(url, evaluations):
    command = [sys.executable, "-c", WORKER, url, str(Path(__file__).parent), str(evaluations)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def test_two_searches_that_start_on_an_empty_database_share_the_work_and_repeat_nothing(empty, problem):
    url = empty
    both = [worker(url, 24) for _ in range(2)]
    done = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], [error[-600:] for _, error in done]
    with Archive(url, problem.space) as archive:
        trials = archive.trials()
    assert [trial.number for trial in trials] == list(range(24))
    assert len({trial.architecture.digest for trial in trials}) == 24
    assert sum(len(out.splitlines()) for out, _ in done) == 24, "each candidate was evaluated by one process"


def test_what_a_killed_search_had_in_hand_is_evaluated_by_the_next(empty, problem):
    first = worker(empty, 12)
    for _ in range(3):
        first.stdout.readline()
    first.kill()
    first.communicate(timeout=60)
    found = worker(empty, 12)
    _, error = found.communicate(timeout=120)
    assert found.returncode == 0, error[-600:]
    with Archive(empty, problem.space) as archive:
        trials = archive.trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert len({trial.architecture.digest for trial in trials}) == 12


def test_what_another_process_has_reserved_is_refused_until_it_dies(url, problem, monkeypatch):
    rng = random.Random(0)
    first, second = problem.space.sample(rng), problem.space.sample(rng)
    ours, theirs = Archive(url, problem.space), Archive(url, problem.space)
    assert theirs.reserve(3, first)
    assert ours.elsewhere() == {3: first}
    assert not ours.reserve(3, second), "the number is taken"
    assert not ours.reserve(4, first), "the architecture is taken"
    assert ours.reserve(4, second)
    assert theirs.elsewhere() == {4: second}
    monkeypatch.setattr(reservations, "_started", lambda process: None)
    assert ours.elsewhere() == {}
    assert ours.reserve(3, first)


def test_a_reservation_on_another_machine_lapses_after_an_hour(url, problem, monkeypatch):
    theirs = Archive(url, problem.space)
    monkeypatch.setattr(reservations.socket, "gethostname", lambda: "elsewhere")
    ours = Archive(url, problem.space)
    theirs.reserve(0, problem.space.smallest())
    assert list(ours.elsewhere()) == [0]
    monkeypatch.setattr(reservations, "LAPSE", -1.0)
    assert ours.elsewhere() == {}
    with pytest.raises(NasError, match="took longer than a reservation"):
        theirs.add(Trial(0, problem.space.smallest(), "complete", {"accuracy": 0.5}))


def test_a_finished_reservation_is_read_by_others_as_any_trial(url, problem, fake):
    ours, theirs = Archive(url, problem.space, budgets=problem.budgets), Archive(url, problem.space)
    trial = fake.finished(problem, 0, problem.space.smallest())
    assert ours.reserve(0, trial.architecture)
    ours.add(trial)
    assert theirs.refresh() == [trial]
    assert theirs.refresh() == []
    study = optuna.load_study(study_name="nas", storage=url)
    assert [one.state for one in study.trials] == [TrialState.COMPLETE]
    assert study.trials[0].constraints.keys() == {"latency"}
    assert study.best_trial.user_attrs["digest"] == trial.architecture.digest


def test_what_is_given_back_is_no_trial(url, problem):
    with Archive(url, problem.space) as archive:
        archive.reserve(0, problem.space.smallest())
    with Archive(url, problem.space) as archive:
        assert len(archive) == 0
        assert archive.reserve(0, problem.space.smallest())


def test_a_journal_has_one_writer_and_needs_no_reservations(tmp_path, problem):
    with Archive(tmp_path / "a.journal", problem.space) as archive:
        assert archive.reserve(0, problem.space.smallest())
        assert archive.elsewhere() == {}


def test_what_another_process_records_while_this_one_evaluates_is_told_once(url, problem, fake, monkeypatch):
    """Also where it is recorded between the two moments at which this one listens: else it would be proposed again."""
    monkeypatch.setattr(loop, "POLL", 0.01)
    told, asked = [], itertools.count()

    class Told(LocalSearch):
        def tell(self, trials):
            told.extend(trial.number for trial in trials)
            super().tell(trials)

    with Archive(url, problem.space, budgets=problem.budgets) as ours, Archive(url, problem.space) as theirs:
        other = LocalSearch(problem, 0)

        def evaluate(text):
            other.tell(theirs.refresh())
            number = len(theirs) + 1
            if next(asked) % 3 == 0 and number < EVALUATIONS:
                member = other.ask(number, [problem.space.from_json(text)])
                assert theirs.reserve(number, member)
                other.tell([fake.finished(problem, number, member)])
                theirs.add(other.history[-1])
            return fake.evaluate(text)

        run_search(problem, Told(problem, 0), ours, LocalExecutor(evaluate), evaluations=EVALUATIONS)
        trials = ours.trials()
    assert sorted(told) == list(range(EVALUATIONS))
    assert len({trial.architecture.digest for trial in trials}) == EVALUATIONS
