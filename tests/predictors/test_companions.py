"""Networks that run beside later groups tell the machine's moods that the anchor does not feel."""

from dataclasses import replace

import numpy as np
import pytest
from known_machine import SPACE, latency, measured, sampled

from nas.errors import MeasurementError
from nas.predictors import network_profile
from nas.predictors.companions import COMPANIONS, Companions, level
from nas.predictors.interleaving import Effort
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.machine import MachineState
from nas.predictors.network_profile import NetworkProfile
from nas.predictors.target import Target
from nas.predictors.timings import Visit
from nas.predictors.visits import RunFailedError


class Files:
    """Exports nothing, as for a target that runs modules."""

    def files(self, architectures):
        return {}


class Machine:
    """Runs networks at times that we know, slower by a mood of each group, and the anchor always as fast."""

    def __init__(self, moods, noise=0.0):
        self.moods, self.rng, self.noise = iter(moods), np.random.default_rng(0), noise
        self.broken, self.efforts, self.sizes = set(), [], []

    def prepare(self, architecture, file):
        if architecture.digest in self.broken:
            raise MeasurementError("it was there a moment ago")
        return lambda: architecture

    def measure_runs(self, runs, target, sides, *, effort, seed, reference, watch):
        networks = [run() for run in runs]
        for place, network in enumerate(networks):
            watch(place, [Visit(0.0, 0, (latency(network),), 0, MachineState())])
            if f"running {network.digest}" in self.broken:
                raise RunFailedError("it stopped", place)
        mood = next(self.moods)
        self.efforts.append(effort)
        self.sizes.append(len(runs))
        taken = [latency(network) * mood * self.rng.lognormal(0, self.noise) for network in networks]
        return [replace(measured(seconds, target), quiet=seconds) for seconds in taken]


@pytest.fixture
def session(monkeypatch):
    """`session(moods, noise)`: a profile on a machine of such moods, and the machine."""

    def make(moods, noise=0.0):
        machine = Machine(moods, noise)
        lines = []
        table = LatencyTable(Target(), "tiny", num_classes=10, anchor=1e-3)
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
    found, machine, _ = session([1.0] * 3)
    for group in groups(20, 2, 6):
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 2, 8]


def test_a_target_elsewhere_has_no_companions(session):
    found, machine, _ = session([1.0, 1.0])
    found.table.target = Target.parse("cpu:onnxruntime@folder:/nowhere")
    for group in groups(20, 20):
        found.measure(group, Effort(1.0))
    assert machine.sizes == [20, 20]


def test_a_companion_that_no_longer_runs_is_done_without(session):
    found, machine, _ = session([1.0, 1.1, 1.1])
    first, second, third = groups(20, 20, 20)
    found.measure(first, Effort(1.0))
    chosen = [item.architecture.digest for item in Companions(found.table).beside(20, lambda architecture: lambda: None)]
    machine.broken = {chosen[0], f"running {chosen[1]}"}
    found.measure(second, Effort(1.0))
    assert machine.sizes == [20, 20 + COMPANIONS - 2]
    assert len(found.table.networks) == 40
    assert not found.table.refused
    np.testing.assert_allclose(errors(found.table, second), 0.0, atol=1e-9)
    found.measure(third, Effort(1.0))
    assert machine.sizes[-1] == 20 + COMPANIONS - 2


def test_a_table_that_goes_on_another_day_is_told_at_its_first_speed(session, monkeypatch):
    found, machine, _ = session([1.0])
    first, second = groups(20, 20)
    found.measure(first, Effort(1.0))
    later = NetworkProfile(SPACE, found.table, lambda *line: None, Files())
    monkeypatch.setattr(later, "_prepare", machine.prepare)
    machine.moods = iter([1.4])
    later.measure(second, Effort(1.0))
    np.testing.assert_allclose(errors(found.table, second), 0.0, atol=1e-9)


def test_without_quiet_times_nothing_is_told_anew(session):
    assert level([], []) == 1.0
    bare = measured(1e-3)
    assert level([bare], [bare]) == 1.0
    known = replace(bare, quiet=1e-3)
    assert level([known, known], [replace(bare, quiet=2e-3), replace(bare, quiet=8e-3)]) == pytest.approx(4.0)
