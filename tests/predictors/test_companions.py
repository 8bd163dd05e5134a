"""Networks that run beside later groups tell the machine's moods that the anchor does not feel."""

from dataclasses import replace

import numpy as np
import pytest
from known_machine import SPACE, latency, measured, sampled

from nas.errors import MeasurementError
from nas.predictors import network_profile
from nas.predictors.companions import COMPANIONS, level
from nas.predictors.interleaving import Effort
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.machine import MachineState
from nas.predictors.network_profile import DeviceLostError, NetworkProfile
from nas.predictors.target import Target
from nas.predictors.timings import FELT, Visit
from nas.predictors.visits import RunFailedError

ANCHOR = 1e-3


class Files:
    """Exports nothing, as for a target that runs modules."""

    def files(self, architectures):
        return {}


class Written:
    """Exports every network to a file of a folder."""

    def __init__(self, folder):
        self.folder = folder

    def files(self, architectures):
        found = {item.digest: self.folder / item.digest for item in architectures}
        for path in found.values():
            path.touch()
        return found


class Machine:
    """Runs networks at times that we know, slower by a mood of each group, and the anchor always at its usual time."""

    def __init__(self, moods, noise=0.0):
        self.moods, self.rng, self.noise = iter(moods), np.random.default_rng(0), noise
        self.broken, self.prepared, self.efforts, self.sizes = set(), [], [], []
        self.part = None

    def prepare(self, architecture, file):
        self.prepared.append(architecture.digest)
        if architecture.digest in self.broken:
            raise MeasurementError("it was there a moment ago")
        return lambda: architecture

    def measure_runs(self, runs, target, sides, *, effort, seed, speed, watch):
        networks = [run() for run in runs]
        for place, network in enumerate(networks):
            watch(place, [Visit(0.0, 0, (latency(network),), 0, MachineState())])
            if {"everything", network.digest} & self.broken:
                raise RunFailedError("it stopped", place)
        mood = next(self.moods) * (speed.anchor / ANCHOR) ** FELT
        self.efforts.append(effort)
        self.sizes.append(len(runs))
        taken = [latency(network) * mood * self.rng.lognormal(0, self.noise) for network in networks]
        return [replace(measured(seconds, target), quiet=seconds, part=self.part) for seconds in taken]


@pytest.fixture
def session(monkeypatch):
    """`session(moods, noise)`: a profile on a machine of such moods, and the machine."""

    def make(moods, noise=0.0):
        machine = Machine(moods, noise)
        lines = []
        table = LatencyTable(Target(), "tiny", num_classes=10, anchor=ANCHOR)
        found = NetworkProfile(SPACE, table, lambda *line: lines.append(line), Files())
        monkeypatch.setattr(found, "_prepare", machine.prepare)
        monkeypatch.setattr(network_profile, "measure_runs", machine.measure_runs)
        return found, machine, lines

    return make


def groups(*sizes):
    drawn = iter(sampled("beside", sum(sizes)))
    return [[(next(drawn), TRAIN) for _ in range(size)] for size in sizes]


def errors(table, group):
    networks = [table.networks[architecture.digest] for architecture, _ in group]
    truth = np.array([latency(item.architecture) for item in networks])
    return np.array([item.measurement.quiet for item in networks]) / truth - 1


def test_groups_of_other_moods_are_told_at_the_speed_of_the_first(session):
    found, machine, _ = session([1.0, 1.2, 0.9], noise=0.01)
    parts = groups(20, 20, 20)
    for group in parts:
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 20 + COMPANIONS, 20 + COMPANIONS]
    for group in parts:
        assert abs(errors(found.table, group).mean()) < 0.015
    medians = [found.table.networks[architecture.digest].measurement.median for architecture, _ in parts[1]]
    truth = [latency(architecture) for architecture, _ in parts[1]]
    assert np.median(np.array(medians) / truth) == pytest.approx(1.2, rel=0.02), "what the clock told stays as it was"


def test_groups_that_felt_the_anchor_differently_stay_at_one_level_when_the_table_is_told_at_its_last_speed(session):
    found, machine, _ = session([1.0, 1.2])
    first, second = groups(20, 20)
    for group, part in ((first, 0.8), (second, 1.0)):
        machine.part = part
        found.measure(group, Effort(1.0))
    found.table.tell_at(1.3 * ANCHOR)
    np.testing.assert_allclose(errors(found.table, second), errors(found.table, first)[0], atol=1e-9)
    assert found.table.speed.part == pytest.approx(0.9)


def test_companions_take_their_part_of_the_time_and_are_recorded_as_such(session):
    found, machine, lines = session([1.0, 1.0])
    for group in groups(20, 20):
        found.measure(group, Effort(1.0))
    assert [effort.seconds * size for effort, size in zip(machine.efforts, machine.sizes, strict=True)] == [20.0, 20.0]
    beside = {name for what, name, _ in lines if what == "companion"}
    assert len(beside) == COMPANIONS
    assert beside < found.table.networks.keys()
    assert len(found.table.networks) == 40
    assert len({name for what, name, _ in lines if what == "network"}) == 40


def test_small_groups_have_few_companions_and_very_small_ones_none(session):
    found, machine, _ = session([1.0] * 4)
    for group in groups(20, 8, 10, 12):
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 8, 13, 16]


@pytest.mark.parametrize("target", ["cpu:onnxruntime@folder:/nowhere", "cpu:compile"])
def test_targets_elsewhere_and_compiled_ones_have_no_companions(session, target):
    found, machine, _ = session([1.0, 1.0])
    found.table.target = Target.parse(target)
    for group in groups(20, 20):
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 20]


def test_companions_of_the_first_group_are_not_prepared_again(session):
    found, machine, _ = session([1.0, 1.0])
    for group in groups(20, 20):
        found.measure(group, Effort(1.0))
    assert len(machine.prepared) == len(set(machine.prepared)) == 40


def test_a_companion_that_no_longer_runs_costs_no_network(session):
    found, machine, _ = session([1.0, 1.1, 1.1])
    first, second, third = groups(20, 20, 20)
    found.measure(first, Effort(1.0))
    machine.broken = set(found.companions.runs)
    for group in (second, third):
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 20, 20]
    assert len(found.table.networks) == 60
    assert not found.table.refused


def test_a_network_that_fails_beside_companions_is_tried_without_them(session, monkeypatch):
    found, machine, _ = session([1.0, 1.0])
    first, second = groups(20, 20)
    found.measure(first, Effort(1.0))
    runs_of = machine.measure_runs

    def short_of_memory(runs, *arguments, **options):
        if len(runs) > 20:
            raise RunFailedError("no memory left", 3)
        return runs_of(runs, *arguments, **options)

    monkeypatch.setattr(network_profile, "measure_runs", short_of_memory)
    found.measure(second, Effort(1.0))
    assert len(found.table.networks) == 40
    assert not found.table.refused


def test_a_device_that_is_gone_is_told_also_where_companions_run(session, monkeypatch):
    found, machine, _ = session([1.0])
    first, second = groups(20, 20)
    found.measure(first, Effort(1.0))
    machine.broken = {"everything"}
    monkeypatch.setattr(found, "_runs", lambda architecture: False)
    with pytest.raises(DeviceLostError, match="it stopped"):
        found.measure(second, Effort(1.0))
    assert len(found.table.networks) == 20


def test_a_table_that_goes_on_another_day_is_told_at_its_first_speed(session, monkeypatch):
    found, machine, _ = session([1.0])
    first, second = groups(20, 20)
    found.measure(first, Effort(1.0))
    found.table.tell_at(1.3 * ANCHOR)
    later = NetworkProfile(SPACE, found.table, lambda *line: None, Files())
    monkeypatch.setattr(later, "_prepare", machine.prepare)
    machine.broken, machine.moods = {next(iter(found.companions.runs))}, iter([1.4])
    later.measure(second, Effort(1.0))
    assert machine.sizes[-1] == 20 + COMPANIONS - 1
    np.testing.assert_allclose(errors(found.table, second), errors(found.table, first)[0], atol=1e-9)


def test_the_file_of_a_companion_is_deleted_whether_it_runs_or_not(session, monkeypatch, tmp_path):
    found, machine, _ = session([1.0])
    first, second = groups(20, 20)
    found.measure(first, Effort(1.0))
    later = NetworkProfile(SPACE, found.table, lambda *line: None, Written(tmp_path))
    monkeypatch.setattr(later, "_prepare", machine.prepare)
    machine.broken, machine.moods = {next(iter(found.companions.runs))}, iter([1.0])
    later.measure(second, Effort(1.0))
    assert machine.sizes[-1] == 20 + COMPANIONS - 1
    assert list(tmp_path.iterdir()) == []


def test_stored_quiet_times_go_with_the_anchor_as_new_ones_do(session):
    found, _, _ = session([1.0, 1.0])
    first, second = groups(2, 2)
    found.measure(first, Effort(1.0))
    found.table.tell_at(1.3 * ANCHOR)
    found.measure(second, Effort(1.0))
    np.testing.assert_allclose(errors(found.table, second), errors(found.table, first), atol=1e-9)


def test_without_quiet_times_nothing_is_told_anew():
    assert level([], []) == 1.0
    bare = measured(1e-3)
    assert level([bare], [bare]) == 1.0
    known = replace(bare, quiet=1e-3)
    assert level([known, known], [replace(bare, quiet=2e-3), replace(bare, quiet=8e-3)]) == pytest.approx(4.0)
