import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import MeasurementError
from nas.predictors.remote.agent.lease import FileLease, Lease

STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "renew", "release", "sleep"]), st.sampled_from("ab"), st.floats(0, 8)), max_size=30
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(STEPS)
def test_at_most_one_holds_the_lease_and_only_silence_or_its_word_takes_it(steps):
    clock = Clock()
    lease = Lease(5.0, clock)
    holder, heard = None, 0.0
    for what, key, seconds in steps:
        if clock.now - heard > 5.0:
            holder = None
        if what == "sleep":
            clock.now += seconds
        elif what == "release":
            lease.release(key)
            holder = None if holder == key else holder
        elif what == "renew":
            assert lease.renew(key) == (holder == key)
            heard = clock.now if holder == key else heard
        else:
            granted, name = lease.acquire(key, f"client {key}")
            holder = holder or key
            heard = clock.now if holder == key else heard
            assert granted == (holder == key)
            assert name.startswith(f"client {holder} since")


def test_a_client_that_asks_again_has_been_heard():
    clock = Clock()
    lease = Lease(5.0, clock)
    for _ in range(5):
        assert lease.acquire("a", "ann")[0]
        clock.now += 4.0
        assert not lease.acquire("b", "bob")[0]


def test_a_file_lease_goes_to_one_and_back(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    first, second = FileLease(path, "ann", 5.0, clock), FileLease(path, "bob", 5.0, clock)
    assert first.try_acquire() is None
    assert first.try_acquire() is None
    assert second.try_acquire() == "ann"
    second.release()
    assert path.exists()
    first.release()
    assert second.try_acquire() is None
    assert first.try_acquire() == "bob"


def test_a_file_lease_expires_when_its_number_stands_still_and_not_while_it_counts(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    first, second = FileLease(path, "ann", 5.0, clock), FileLease(path, "bob", 5.0, clock)
    first.try_acquire()
    for _ in range(10):
        clock.now += 4.0
        first.beat()
        assert second.try_acquire() == "ann"
    clock.now += 4.0
    assert second.try_acquire() == "ann"
    clock.now += 1.5
    assert second.try_acquire() is None
    with pytest.raises(MeasurementError, match="taken over by bob"):
        first.beat()
    first.release()
    assert json.loads(path.read_text())["name"] == "bob"
    assert [item.name for item in tmp_path.iterdir()] == ["lease"]


def test_a_damaged_lease_file_expires_too(tmp_path):
    path, clock = tmp_path / "lease", Clock()
    path.write_bytes(b"")
    lease = FileLease(path, "ann", 5.0, clock)
    assert lease.try_acquire() == "somebody"
    clock.now += 6.0
    assert lease.try_acquire() is None


def test_a_heartbeat_keeps_the_lease_until_the_end(tmp_path):
    path = tmp_path / "lease"
    lease = FileLease(path, "ann", 0.05)
    assert lease.try_acquire() is None
    before = path.read_bytes()
    with lease.kept():
        while path.read_bytes() in (before, b""):
            pass
    assert not path.exists()


def test_a_lease_that_is_taken_over_is_told_to_its_holder(tmp_path):
    path, told = tmp_path / "lease", threading.Event()
    lease = FileLease(path, "ann", 0.05)
    assert lease.try_acquire() is None
    taken = b'{"key": "other", "name": "bob", "beat": 1}'

    def hold():
        with lease.kept(told.set):
            while not told.wait(0.01):
                (tmp_path / "bob").write_bytes(taken)
                (tmp_path / "bob").replace(path)  # as a whole: a beat may read it at any moment
            with pytest.raises(MeasurementError, match="taken over by bob"):
                lease.require()

    with pytest.raises(MeasurementError, match="was taken over by bob while"):
        hold()
    assert path.read_bytes() == taken
