import os

import pytest

from nas.errors import FileError
from nas.predictors.remote.agent.spool import DONE, RUNNING, UNKNOWN, WAITING, Spool
from nas.predictors.remote.agent.wire import WireError

A, B = "a" * 32, "b" * 32


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path, b"secret")


def test_a_job_moves_on_and_is_never_taken_in_twice(spool):
    assert spool.state(A) == UNKNOWN
    for expected in (WAITING, RUNNING, DONE):
        spool.put(A, {"n": 1}, b"body")
        assert spool.state(A) == expected
        if expected == WAITING:
            assert spool.take() == A
            assert spool.job(A) == ({"n": 1}, b"body")
        elif expected == RUNNING:
            spool.finish(A, {"state": "done"}, b"times")
    assert spool.take() is None
    assert spool.result(A) == ({"state": "done"}, b"times")
    spool.forget(A)
    assert spool.state(A) == UNKNOWN


def test_jobs_are_taken_in_the_order_of_their_age(spool):
    for age, name in ((5, A), (50, B)):
        spool.put(name, {}, b"")
        path = spool.folder / "jobs" / f"{name}.job"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert [spool.take(), spool.take(), spool.take()] == [B, A, None]


def test_a_job_that_was_being_measured_is_measured_after_a_crash_and_given_up_after_two(spool):
    spool.put(A, {"n": 1}, b"body")
    assert spool.take() == A
    spool.recover()
    assert spool.state(A) == WAITING
    assert spool.take() == A
    assert spool.job(A) == ({"n": 1}, b"body")
    spool.recover()
    assert spool.take() is None
    assert "died 2 times" in spool.result(A)[0]["error"]


def test_a_crash_after_the_result_measures_nothing_again(spool):
    spool.put(A, {}, b"")
    spool.take()
    (spool.folder / "running" / f"{A}.job").rename(spool.folder / "kept")
    spool.finish(A, {"state": "done"}, b"")
    (spool.folder / "kept").rename(spool.folder / "running" / f"{A}.job")
    spool.recover()
    assert spool.take() is None
    assert spool.state(A) == DONE


def test_a_job_that_is_put_back_does_not_count_as_a_crash(spool):
    spool.put(A, {}, b"")
    for _ in range(5):
        assert spool.take() == A
        spool.put_back(A)
    spool.take()
    spool.recover()
    assert spool.take() == A


def test_files_of_another_secret_or_purpose_are_refused(spool, tmp_path):
    spool.put(A, {}, b"")
    Spool(tmp_path, b"another").put(B, {}, b"")
    assert {spool.take(), spool.take()} == {A, B}
    with pytest.raises(WireError, match="another secret"):
        spool.job(B)
    (tmp_path / "running" / f"{A}.job").rename(tmp_path / "results" / f"{A}.result")
    with pytest.raises(WireError, match="another secret"):
        spool.result(A)
    with pytest.raises(WireError, match="cannot read the result"):
        spool.result("c" * 32)


def test_results_that_nobody_fetches_are_removed_in_the_end(spool):
    for name, age in ((A, 100), (B, 1)):
        spool.finish(name, {}, b"")
        path = spool.folder / "results" / f"{name}.result"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    spool.prune(50)
    assert (spool.state(A), spool.state(B)) == (UNKNOWN, DONE)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot use the folder"):
        Spool(tmp_path / "file", b"")
