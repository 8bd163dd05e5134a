"""Counting joules: on a simulated device whose counter is updated now and then."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import MeasurementError
from nas.predictors.energy import Energy, Round, energy_seconds, measure_energy, summarise_rounds
from nas.predictors.target import Target
from nas.predictors.visits import RunFailedError

TARGET = Target()


class Device:
    """Takes `rest` watts, and `joules` more for a run of `seconds`; its counter is updated every `interval` seconds."""

    name, devices, counts = "simulated", ("cpu",), "all"

    def __init__(self, rest=10.0, joules=3e-3, seconds=1e-3, interval=1e-3, phase=0.0):
        self.rest, self.joules, self.seconds, self.interval = rest, joules, seconds, interval
        self.now, self.spent, self.shown = phase * interval, 0.0, 0.0

    def clock(self):
        return self.now

    def let_pass(self, seconds, joules=0.0):
        power, end = self.rest + joules / seconds, self.now + seconds
        update = self.interval * (math.floor(end / self.interval + 1e-9))
        if update > self.now:
            self.shown = self.spent + power * (update - self.now)
        self.spent += power * seconds
        self.now = end

    def run(self):
        self.let_pass(self.seconds, self.joules)

    def start(self):
        first = self.shown
        return lambda: self.shown - first

    def measure(self, **options):
        return measure_energy(self.run, TARGET, self, clock=self.clock, sleep=self.let_pass, **options)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 100.0), st.floats(0.2, 5.0), st.floats(-2.0, 1.5), st.sampled_from([1e-3, 0.1]), st.floats(0.0, 0.99))
def test_a_run_is_told_its_energy_beyond_rest_however_seldom_the_counter_moves(rest, share, length, interval, phase):
    seconds = interval * 10**length
    joules = share * rest * seconds
    device = Device(rest, joules, seconds, interval, phase)
    began = device.now
    found = device.measure()
    assert abs(found.joules - joules) <= 0.015 * (joules + rest * seconds)
    assert found.low <= found.joules <= found.high
    assert found.rest == pytest.approx(rest, rel=0.01)
    assert found.seconds == pytest.approx(seconds, rel=0.02)
    took = device.now - began
    assert took <= 2 * energy_seconds(device, seconds) + 10 * seconds
    assert (found.meter, found.target) == ("simulated", str(TARGET))


def test_every_round_is_shown_and_the_median_counts():
    device, rounds = Device(), []

    def disturbed(found):
        rounds.append(found)
        device.rest = 60.0 if len(rounds) == 2 else 10.0

    found = device.measure(watch=disturbed)
    assert len(rounds) == 5
    assert found.runs == sum(item.runs for item in rounds)
    assert found.joules == sorted(item.net for item in rounds)[2] == pytest.approx(3e-3, rel=0.02)


def test_a_counter_that_stands_still_is_no_counter():
    device = Device(rest=0.0, joules=1e-9)
    device.start = lambda: lambda: 0.0
    with pytest.raises(MeasurementError, match="stands still: it has not moved for"):
        device.measure()


def test_rest_that_takes_as_much_as_work_is_not_believed():
    with pytest.raises(MeasurementError, match=r"counts no more while the network runs on cpu:eager.*let the machine rest"):
        summarise_rounds([Round(0.0, 10.0, 1.0, 9.0, 1.0, 100)] * 5, "simulated", str(TARGET))


def test_a_run_that_fails_is_told_as_such():
    device = Device()

    def fail():
        raise ValueError("out of memory")

    device.run = fail
    with pytest.raises(RunFailedError, match="stopped running: out of memory"):
        device.measure()


def test_an_energy_survives_its_mapping_and_nothing_else_is_one():
    found = Device().measure()
    assert Energy.from_mapping(found.to_mapping()) == found
    named = found.to_mapping()
    bare = {name: value for name, value in named.items() if name != "runs"}
    for wrong in ({}, 3.0, bare, {**named, "volts": 1.0}, *({**named, "joules": value} for value in (0, -1.0, math.nan, "3"))):
        with pytest.raises(MeasurementError, match="not an energy"):
            Energy.from_mapping(wrong)
