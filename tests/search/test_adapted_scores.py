"""Candidates that are trained for some steps before they are scored: what is scored, and what cheap scores turn down first."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from few_images import SIDE, images

from nas.search.evaluation import SupernetEvaluator
from nas.search.loop import _state
from nas.search.types import PASSED_OVER
from nas.search_spaces.space import SearchSpace
from nas.supernet.adaptation import Adaptation, adapt
from nas.supernet.calibration import calibrate, score
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet

IMAGES, FEW = 24, 8
NEVER = float("inf")
STEPS = Adaptation(steps=3, batch=8, learning_rate=0.05)


@pytest.fixture(scope="module")
def parts():
    space = SearchSpace(
        name="least", resolutions=(SIDE,), stems=("patchify",), stem_stride=2, downsamples=("conv",), norms=("batch",),
        depths=((1, 2),), widths=((8, 16),), mixers=(("depthwise_conv", "pooling"),), settings={"kernel": (3,)},
    )  # fmt: skip
    splits = images(32, 0), images(IMAGES, 1), images(4, 2)
    data = DataSplits("x", ("a", "b"), *splits, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), False)
    return Supernet(space, 2, 3, seed=0, unshared="norms").eval(), data


@pytest.fixture(scope="module")
def member(parts):
    return parts[0].space.largest()


def plain(found):
    return {name: value for name, value in found.items() if "seconds" not in name}


def test_the_score_is_that_of_the_adapted_copy_with_statistics_of_its_own(parts, member):
    supernet, data = parts
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    found = SupernetEvaluator(*parts, 1, adaptation=STEPS)(member.to_json())
    network = supernet.extract(member)
    adapt(network, data, STEPS, SIDE)
    calibrate(network, data, SIDE)
    expected = score(network, data, data.validation, SIDE)
    assert (found["accuracy"], found["loss"]) == (expected.accuracy, expected.loss)
    assert (found["adapted"], found["fidelity"], found["images"]) == (3.0, 1.0, IMAGES)
    assert found["adapting_seconds"] > 0
    assert found["loss"] != SupernetEvaluator(*parts, 1)(member.to_json())["loss"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_without_steps_nothing_is_told_of_an_adaptation(parts, member):
    found = SupernetEvaluator(*parts, 1, adaptation=Adaptation())(member.to_json())
    assert found == SupernetEvaluator(*parts, 1)(member.to_json())
    assert not [name for name in found if name.startswith("adapt")]


def test_a_score_is_the_same_again_in_any_order_and_after_a_journey(parts, member):
    evaluate = SupernetEvaluator(*parts, 1, adaptation=STEPS)
    first = plain(evaluate(member.to_json()))
    evaluate(parts[0].space.smallest().to_json())
    torch.rand(3)
    assert plain(evaluate(member.to_json())) == first
    assert plain(pickle.loads(pickle.dumps(evaluate))(member.to_json())) == first


@pytest.mark.parametrize("name", ["loss", "accuracy", "naswot"])
def test_what_a_cheap_score_turns_down_is_not_trained_and_has_no_accuracy(parts, member, name, monkeypatch):
    evaluate = SupernetEvaluator(*parts, 1, FEW, name, STEPS)
    whole = evaluate(member.to_json(), -NEVER)
    unscreened = SupernetEvaluator(*parts, 1, adaptation=STEPS)(member.to_json())
    assert {key: whole[key] for key in plain(unscreened)} == plain(unscreened), "promoted, it is scored as without a screen"

    def refuse(*_):
        raise AssertionError("nothing is trained")

    monkeypatch.setattr("nas.search.evaluation.adapt", refuse)
    less = evaluate(member.to_json(), NEVER)
    assert less["screening"] == whole["screening"]
    assert not {"accuracy", "loss", "adapted"} & less.keys()
    assert (less["fidelity"], less["images"]) == (0.0, 0.0)
    for found in (whole, less):
        assert found.get("screening_images") == (None if name == "naswot" else FEW)
    assert _state(less, None) == PASSED_OVER


def test_a_cheap_score_is_that_of_the_shared_weights(parts, member):
    adapted = SupernetEvaluator(*parts, 1, FEW, "loss", STEPS)(member.to_json(), NEVER)
    assert adapted["screening"] == SupernetEvaluator(*parts, 1, FEW, "loss")(member.to_json(), NEVER)["screening"]
    more = SupernetEvaluator(*parts, 1, 10 * IMAGES, "loss", STEPS)(member.to_json(), NEVER)
    assert more["screening_images"] == IMAGES, "all images with shared weights are still cheaper than training"


def test_a_loss_that_is_no_number_is_the_candidates_failure(parts, member):
    from nas.errors import NasError

    evaluate = SupernetEvaluator(*parts, 1, adaptation=replace(STEPS, steps=40, learning_rate=1e30))
    with pytest.raises(NasError, match=r"the loss is (nan|inf) at step \d+: lower the learning rate"):
        evaluate(member.to_json())
