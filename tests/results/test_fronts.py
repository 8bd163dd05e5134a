"""Metrics that a run did not ask for: whose table tells them."""

from types import SimpleNamespace

import pytest

from nas.predictors.energy import Energy
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.results import fronts
from nas.search_spaces.presets import load_space

CPU, ONNX = Target(), Target.parse("cpu:onnxruntime")
MEMBER = load_space("tiny").smallest()


class Told:
    """In place of a `RunTarget`: tells under each name which file its predictor would rest on."""

    def __init__(self, metric, target, path, limit, given, energy=None):
        self.names, self.path = [name for name in (metric, energy) if name is not None], path
        self.predictor = SimpleNamespace(table=LatencyTable(target, num_classes=10))

    def load(self, verdicts):
        pass

    def describe(self, architecture):
        return dict.fromkeys(self.names, self.path.parent.name)


def run(folder, target, counted=False):
    """A run on a target, whose table holds an energy or not."""
    table, path = LatencyTable(target, "tiny"), folder / "table.json"
    if counted:
        table.add(MEMBER, Measurement(6e-3, 5e-3, 7e-3, 7e-3, 8e-3, 40, 0.01, 0.0, str(target), 32))
        table.add_energy(MEMBER, Energy(1e-3, 1e-3, 1e-3, 2.0, 1e-3, 9, "toy", str(target)))
    table.save(path)
    return SimpleNamespace(config=lambda: SimpleNamespace(latencies=lambda: {"latency": target}), table_of=lambda *_: path)


@pytest.fixture
def missing(tmp_path, monkeypatch):
    monkeypatch.setattr(fronts, "RunTarget", Told)
    monkeypatch.setattr(fronts, "can_predict", lambda table: bool(table.energies))

    def make(**runs):
        return fronts._Missing([run(tmp_path / name, *given) for name, given in runs.items()], CPU)

    return make


def test_each_latency_is_told_by_a_table_of_its_own_target_whatever_was_asked_before(missing):
    known = missing(first=(CPU,), second=(ONNX,))
    assert known._told("memory", MEMBER)["memory"] > 0
    assert known._told("latency", MEMBER) == {"latency": "first"}
    assert known._told(f"latency@{ONNX}", MEMBER) == {f"latency@{ONNX}": "second"}


def test_an_energy_is_told_by_the_run_that_counted_it(missing):
    known = missing(first=(CPU,), second=(CPU, True))
    assert known._told("latency", MEMBER) == {"latency": "first"}
    assert known._told("energy", MEMBER)["energy"] == "second"
    assert known._told(f"energy@{ONNX}", MEMBER) == {}
