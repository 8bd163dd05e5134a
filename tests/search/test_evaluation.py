"""What an evaluation scores: all images, few of them first, or a proxy before any."""

from __future__ import annotations

import pickle

import pytest
import torch
from few_images import SIDE, images
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UnknownNameError
from nas.predictors.proxies import proxy
from nas.search.cheap_scores import MEASURED, cheap_scores
from nas.search.evaluation import SupernetEvaluator
from nas.search_spaces.space import SearchSpace
from nas.supernet.calibration import Score
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet

IMAGES, FEW = 24, 8
NEVER = float("inf")
PROXIES = cheap_scores()[len(MEASURED) :]


@pytest.fixture(scope="module")
def parts():
    space = SearchSpace(
        name="least", resolutions=(SIDE,), stems=("patchify",), stem_stride=2, downsamples=("conv",), norms=("layer", "batch"),
        depths=((1, 2),), widths=((8, 16),), mixers=(("depthwise_conv", "pooling"),), settings={"kernel": (3,)},
    )  # fmt: skip
    splits = images(16, 0), images(IMAGES, 1), images(4, 2)
    data = DataSplits("x", ("a", "b"), *splits, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), False)
    return Supernet(space, 2, 3, seed=0).eval(), data


@pytest.fixture(scope="module")
def member(parts):
    return parts[0].space.largest()


@pytest.mark.parametrize("name", PROXIES)
def test_below_the_bar_a_proxy_is_all_that_is_computed_and_above_it_nothing_changes(parts, member, name, monkeypatch):
    evaluate = SupernetEvaluator(*parts, 1, FEW, name)
    plain = SupernetEvaluator(*parts, 1)(member.to_json())
    found = evaluate(member.to_json(), -NEVER)
    assert found["screening_seconds"] > 0
    assert {key: found[key] for key in plain} == plain, "the proxy leaves the weights and their statistics alone"
    assert evaluate(member.to_json())["accuracy"] == plain["accuracy"], "without a bar all is scored"

    def refuse(*_):
        raise AssertionError("nothing is calibrated or scored")

    monkeypatch.setattr("nas.search.evaluation.calibrate", refuse)
    monkeypatch.setattr("nas.search.evaluation.score", refuse)
    less = evaluate(member.to_json(), NEVER)
    assert less["screening"] == found["screening"]
    assert (less["fidelity"], less["images"]) == (0.0, 0.0)
    assert less.keys() == {"screening", "screening_seconds", "fidelity", "images", "params", "macs"}


def test_a_proxy_sees_the_inherited_weights_and_images_of_the_whole_split(parts, member):
    supernet, data = parts
    found = SupernetEvaluator(*parts, 1, FEW, "snip")(member.to_json(), NEVER)
    few = data.validation.take(torch.linspace(0, IMAGES - 1, FEW).round().long())
    expected = proxy("snip").score(supernet.extract(member), data.prepare(few.images, SIDE), few.labels)
    assert found["screening"] == pytest.approx(expected, rel=1e-6)
    whole = SupernetEvaluator(*parts, 1, 10 * IMAGES, "snip")(member.to_json(), NEVER)
    assert whole["screening"] != found["screening"]


@pytest.mark.parametrize(("name", "sign"), [("loss", -1), ("accuracy", 1)])
@settings(max_examples=10, deadline=None)
@given(few=st.integers(1, IMAGES - 1))
def test_scored_in_two_parts_the_accuracy_is_that_of_one(parts, member, name, sign, few):
    plain = SupernetEvaluator(*parts, 1)(member.to_json())
    found = SupernetEvaluator(*parts, 1, few, name)(member.to_json(), -NEVER)
    assert found["accuracy"] == plain["accuracy"]
    assert found["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    less = SupernetEvaluator(*parts, 1, few, name)(member.to_json(), NEVER)
    assert (less["images"], less["screening"]) == (few, sign * less[name])
    assert found["screening"] == less["screening"], "what was scored first is compared, whatever comes after"
    assert "screening_seconds" not in less
    reached = SupernetEvaluator(*parts, 1, few, name)(member.to_json(), less["screening"])
    assert reached["fidelity"] == 1.0


@pytest.mark.parametrize("name", ["accuracy", "loss", "naswot"])
def test_an_evaluator_travels_with_its_way_of_screening(parts, member, name):
    evaluate = SupernetEvaluator(*parts, 1, FEW, name)
    again = pickle.loads(pickle.dumps(evaluate))
    mine, theirs = (dict(one(member.to_json(), NEVER)) for one in (evaluate, again))
    assert {**mine, "screening_seconds": 0} == {**theirs, "screening_seconds": 0}


def test_a_loss_that_is_no_number_is_worth_no_more_images(parts, member, monkeypatch):
    monkeypatch.setattr("nas.search.evaluation.score", lambda *_: Score(0.5, float("nan")))
    evaluate = SupernetEvaluator(*parts, 1, FEW)
    assert evaluate(member.to_json(), -NEVER)["images"] == FEW
    assert evaluate(member.to_json())["images"] == IMAGES


def test_an_unknown_cheap_score_is_answered_with_the_nearest(parts):
    with pytest.raises(UnknownNameError, match=r"unknown cheap score 'naswt'\. Did you mean 'naswot'"):
        SupernetEvaluator(*parts, 1, FEW, "naswt")
