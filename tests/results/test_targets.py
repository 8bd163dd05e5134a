from dataclasses import replace
from types import SimpleNamespace

import numpy as np

import nas
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.results.targets import RunTarget

MEMBER = nas.load_space("tiny").smallest()
SLOW = Measurement(6e-3, 5e-3, 7e-3, 7e-3, 8e-3, 40, 0.01, 0.0, str(Target()), 32, anchor=2e-3)


class Predictor:
    def __init__(self, anchor):
        self.table, self.learned = SimpleNamespace(anchor=anchor), []

    def predict(self, architectures):
        return SimpleNamespace(mean=np.array([4e-3]))

    def correct(self, architectures, found):
        self.learned += found


def test_a_verdict_is_of_the_speed_of_the_table_and_the_predictor_learns_from_one_over_the_budget(tmp_path):
    one = RunTarget("latency", Target(), tmp_path / "t.json", 6.5e-3, None)
    one.predictor = Predictor(1e-3)
    assert one.speed == 1e-3
    verdict = one.judge(MEMBER, SLOW, final=False)
    assert not verdict.accepted
    assert verdict.measurement == SLOW
    assert one.predictor.learned == [SLOW]
    assert one.judge(MEMBER, replace(SLOW, high=6.4e-3), final=True).accepted
    assert len(one.predictor.learned) == 1
