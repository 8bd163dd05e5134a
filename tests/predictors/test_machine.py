import contextlib
import os

import pytest

from nas.predictors import machine
from nas.predictors.allocator import KEPT, USUAL
from nas.predictors.environment import differences, environment
from nas.predictors.machine import MachineState, clock_hz, interruptions, machine_state, pinned

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot hold a process to cores")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of four cores, two of them slow, as the kernel's files tell it."""
    for core, top in enumerate((1e6, 2e6, 2e6, 1e6)):
        folder = tmp_path / f"cpu{core}"
        for name in ("cpufreq", "thermal_throttle"):
            (folder / name).mkdir(parents=True)
        (folder / "cpufreq" / "cpuinfo_max_freq").write_text(f"{top:.0f}\n")
        (folder / "cpufreq" / "scaling_cur_freq").write_text("1500000\n")
        (folder / "cpufreq" / "scaling_governor").write_text("powersave\n")
        (folder / "thermal_throttle" / "core_throttle_count").write_text(f"{core}\n")
    for zone, heat in enumerate((41000, 66500)):
        (tmp_path / f"thermal_zone{zone}").mkdir()
        (tmp_path / f"thermal_zone{zone}" / "temp").write_text(f"{heat}\n")
    monkeypatch.setattr(machine, "CPUS", tmp_path)
    monkeypatch.setattr(machine, "THERMAL", tmp_path)
    monkeypatch.setattr(machine, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(machine, "_IDLE", {})


@pytest.mark.usefixtures("system")
def test_the_state_is_read_from_the_system():
    found = machine_state((1, 2))
    assert (found.clock_hz, found.governor, found.throttles, found.celsius) == (1.5e9, "powersave", 3, 66.5)
    assert found.cpus == (1, 2)
    assert machine_state().throttles == 0
    assert {"clock_hz", "governor", "throttles", "celsius", "cpus"} <= found.to_mapping().keys()


def test_what_cannot_be_read_is_not_told(monkeypatch, tmp_path):
    for name in ("CPUS", "THERMAL", "CPUINFO", "STAT"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    assert clock_hz() is None
    assert machine_state().to_mapping().keys() <= {"load"}
    assert MachineState().to_mapping() == {}


@pytest.mark.usefixtures("system")
def test_the_idlest_of_the_fastest_cores_are_chosen(monkeypatch):
    ticks = iter([{0: 0, 1: 0, 2: 0, 3: 0}, {0: 9, 1: 5, 2: 1, 3: 9}])
    monkeypatch.setattr(machine, "_idle_ticks", lambda: next(ticks))
    assert machine._choose({0, 1, 2, 3}, 1) == {1}
    assert machine._choose({0, 1, 2, 3}, 2) == {1, 2}


@pytest.mark.usefixtures("system")
def test_threads_that_need_more_than_the_fast_cores_take_any_and_those_that_need_all_are_not_held(monkeypatch):
    monkeypatch.setattr(machine, "_idle_ticks", lambda: {0: 3, 1: 1, 2: 2, 3: 0})
    assert len(machine._choose({0, 1, 2, 3}, 3)) == 3
    assert machine._choose({0, 1, 2, 3}, 4) == set()


@linux
def test_a_measurement_is_held_to_its_cores_and_let_go_after_a_failure():
    before = os.sched_getaffinity(0)
    with contextlib.suppress(RuntimeError), pinned(1) as cpus:
        assert len(cpus) == (1 if len(before) > 1 else 0)
        assert os.sched_getaffinity(0) == (set(cpus) or before)
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


@linux
def test_a_system_that_forbids_it_is_measured_on_all_cores(monkeypatch):
    def forbid(process, cores):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    monkeypatch.setattr(machine, "_choose", lambda allowed, threads: {0})
    with pinned(1) as cpus:
        assert cpus == ()


def test_interruptions_are_counted_where_the_system_counts_them():
    first = interruptions()
    assert first is None or interruptions() >= first


def test_other_versions_and_machines_are_told_and_load_is_not():
    now = {"cpu": "A", "torch": "2", "runtime": "onnxruntime 2", "load_average": 1.0}
    assert differences(now | {"load_average": 9.0}, now) == []
    assert differences(now | {"runtime": "onnxruntime 1"}, now) == ["runtime was onnxruntime 1, is onnxruntime 2"]
    assert differences({}, now) == []


def test_a_table_of_before_memory_was_kept_is_told():
    before, now = {"cpu": "A"}, {"cpu": "A", "memory": KEPT}
    assert differences(before, now) == [f"memory was {USUAL}, is {KEPT}"]
    assert differences(before, before) == differences(now, now) == []
    assert "memory" not in environment("onnxruntime")
    assert environment("eager")["memory"] in (KEPT, USUAL)
