import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import nas
from nas.errors import FileError, MeasurementError
from nas.predictors.energy import Energy
from nas.predictors.latency_table import LatencyTable
from nas.predictors.meters import rapl
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, Speed
from nas.results.selection import nothing_verified
from nas.results.targets import RunTarget
from nas.results.verification import Verdict

MEMBER = nas.load_space("tiny").smallest()
SLOW = Measurement(6e-3, 5e-3, 7e-3, 7e-3, 8e-3, 40, 0.01, 0.0, str(Target()), 32, anchor=2e-3)


class Predictor:
    def __init__(self, anchor):
        self.table, self.learned = (
            SimpleNamespace(speed=Speed(anchor, 0.8), add_energy=lambda *found: self.learned.append(found[1])),
            [],
        )

    def predict(self, architectures):
        return SimpleNamespace(mean=np.array([4e-3]))

    def correct(self, architectures, found):
        self.learned += found


def test_a_verdict_is_of_the_speed_of_the_table_and_the_predictor_learns_from_one_over_the_budget(tmp_path):
    one = RunTarget("latency", Target(), tmp_path / "t.json", 6.5e-3, None)
    one.predictor = Predictor(1e-3)
    assert one.speed == Speed(1e-3, 0.8)
    verdict = one.judge(MEMBER, SLOW, final=False)
    assert not verdict.accepted
    assert verdict.measurement == SLOW
    assert one.predictor.learned == [SLOW]
    assert one.judge(MEMBER, replace(SLOW, high=6.4e-3), final=True).accepted
    assert len(one.predictor.learned) == 1


COUNTED = Energy(4e-3, 3.9e-3, 4.1e-3, 2.0, 6e-3, 100, "toy", str(Target()))


def frugal(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("nas.results.targets.EnergyPredictor.fit", lambda latency: SimpleNamespace())
    one = RunTarget("latency", Target(), tmp_path / "t.json", 8e-3, None, "energy", limit)
    one.predictor = Predictor(1e-3)
    return one


def test_a_network_under_its_time_and_over_its_energy_is_refused_and_both_are_learned(tmp_path, monkeypatch):
    one = frugal(tmp_path, monkeypatch, 4.05e-3)
    verdict = one.judge(MEMBER, SLOW, final=False, energy=COUNTED)
    assert not verdict.accepted
    assert one.predictor.learned == [SLOW, COUNTED]
    assert Verdict.from_mapping(verdict.to_mapping()) == verdict
    assert frugal(tmp_path, monkeypatch, 4.2e-3).judge(MEMBER, SLOW, final=False, energy=COUNTED).accepted
    uncounted = frugal(tmp_path, monkeypatch, 4.05e-3).judge(MEMBER, SLOW, final=False)
    assert uncounted.accepted
    assert "energy" not in uncounted.to_mapping()


def test_the_closest_of_those_over_a_budget_is_told_by_the_budget_it_breaks(tmp_path, monkeypatch):
    one, hungry = frugal(tmp_path, monkeypatch, 4e-3), replace(COUNTED, high=4.4e-3)
    verdicts = [one.judge(MEMBER, replace(SLOW, high=high), final=False, energy=hungry) for high in (7.9e-3, 9e-3)]
    error = nothing_verified(SimpleNamespace(targets={"latency": one}, verdicts=verdicts, trials=[]))
    assert f"measured under 4 mJ on {Target()}: the closest, {MEMBER.digest}, took up to 4.4 mJ (+10%)" in str(error)
    assert "raise --budget-energy or --evaluations" in str(error)
    assert error.closest == MEMBER


def test_without_a_meter_only_a_table_that_knows_energies_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    one = RunTarget("latency", Target(), tmp_path / "t.json", None, None, "energy", 1.0)
    with pytest.raises(MeasurementError, match="nothing counts the energy"):
        one.require_meter()
    table = LatencyTable(Target(), "tiny")
    table.save(one.path)
    with pytest.raises(MeasurementError, match="count them by `nas profile"):
        one.require_meter()
    for index in range(8):
        member = nas.load_space("tiny").sample(random.Random(index))
        table.add(member, SLOW)
        table.add_energy(member, COUNTED)
    table.save(one.path)
    one.require_meter()
    assert one.meter is None
    assert "has no RAPL counters" in one.uncounted
    plain = RunTarget("latency", Target(), tmp_path / "none.json", None, None)
    plain.require_meter()
    assert plain.uncounted == ""
    monkeypatch.setattr("nas.results.targets.meter_of", lambda target: rapl.Rapl())
    with pytest.raises(FileError, match="has energies counted by toy, not by rapl"):
        one.require_meter()


def test_counting_the_exported_networks_is_foreseen_where_a_meter_counts(tmp_path, monkeypatch):
    """Twice nine rounds: a counter that moves ten times a second takes a second of work and one of rest in each."""
    one = frugal(tmp_path, monkeypatch, 4e-3)
    runs = [SimpleNamespace(measurement=replace(SLOW, median=median)) for median in (2e-3, 5e-3, 9e-3)]
    one.predictor.table.networks = dict(enumerate(runs))
    assert one.counting_seconds() == 0.0
    one.meter = SimpleNamespace(interval=0.1)
    assert one.counting_seconds() == pytest.approx(18 * (1.0 + 1.0 + 2 * (0.1 + 5e-3)))
    one.meter = SimpleNamespace(interval=1e-3)
    assert one.counting_seconds() < 18
