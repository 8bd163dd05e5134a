"""Metrics that a run did not ask for: whose table tells them."""

from types import SimpleNamespace

import pytest

from nas.errors import UsageError
from nas.predictors.energy import Energy
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.results import fronts
from nas.search.types import COMPLETE, SCREENED, Budgets, Trial
from nas.search_spaces.presets import load_space

CPU, ONNX = Target(), Target.parse("cpu:onnxruntime")
MEMBER = load_space("tiny").smallest()
OFFERED = {
    "accuracy": 0.5,
    "latency": 2e-3,
    "latency_upper": 3e-3,
    "params": 9e3,
    "seconds": 1.0,
    "fidelity": 1.0,
    "images": 64,
}


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


def joint(*trials, **limits):
    """A front of trials of one run under budgets."""
    candidates = tuple(fronts.Candidate("run", trial) for trial in trials)
    return fronts.JointFront(("run",), CPU, ("accuracy",), Budgets(limits), candidates, 1)


def trial(number, params, state=COMPLETE):
    """A trial with the upper end of its latency a half above the middle."""
    metrics = {"accuracy": 0.5, "latency": 2e-3, "latency_upper": 3e-3, "params": params, "macs": 1e6}
    return Trial(number, MEMBER, state, metrics)


def test_where_none_meets_the_budgets_the_closest_and_what_it_breaks_are_told():
    found = joint(trial(0, 9e3), trial(1, 6e3), trial(2, 4e3, SCREENED), params=5e3, latency=2.5e-3)
    assert found.front() == []
    assert found.closest().trial.number == 1
    assert (
        f"the closest, {MEMBER.digest}, breaks params 6k over 5k (+20%), latency 3 ms over 2.5 ms (+20%)" in found.lines()[-2]
    )
    assert found.to_mapping()["closest"]["number"] == 1


def test_nothing_is_told_of_a_closest_where_one_meets_the_budgets_or_none_was_scored():
    for found in (joint(trial(0, 9e3), trial(1, 4e3), params=5e3), joint(params=5e3), joint(trial(0, 1e3))):
        assert found.closest() is None
        assert found.to_mapping()["closest"] is None
        assert not any("closest" in line for line in found.lines())


def test_only_what_can_be_asked_for_is_named_in_place_of_what_a_run_does_not_know(missing):
    known = missing(first=(CPU,))
    with pytest.raises(UsageError, match=r"take one of accuracy, latency, params$"):
        known.filled(SimpleNamespace(path="run"), Trial(0, MEMBER, COMPLETE, OFFERED), ["energy"])
