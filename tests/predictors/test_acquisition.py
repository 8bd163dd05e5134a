import random

import numpy as np
import pytest
from known_machine import SPACE, made_table, sampled

from nas.errors import UsageError
from nas.predictors.acquisition import informative, standard, view_of
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import HELD_OUT, TRAIN
from nas.predictors.surrogates.transfer import spread
from nas.predictors.target import Target
from nas.search_spaces.exclusion import operators_in


@pytest.fixture(scope="module")
def view():
    return view_of(made_table(train=0, census=20))


def information(rows):
    design = np.concatenate([np.ones((len(rows), 1)), rows], 1)
    return np.linalg.slogdet(np.eye(design.shape[1]) + design.T @ design)[1]


def test_chosen_networks_say_more_than_random_ones(view):
    measured = sampled("train", 8)
    chosen = informative(SPACE, view, measured, 12, seed=0)
    assert len({architecture.digest for architecture in [*measured, *chosen]}) == 20
    pool = standard(view([*measured, *chosen, *sampled("other", 60)]))
    rng = np.random.default_rng(0)
    random_sets = [information(np.concatenate([pool[:8], pool[20 + rng.choice(60, 12, replace=False)]])) for _ in range(30)]
    assert information(pool[:20]) > max(random_sets)


def test_the_choice_repeats_and_avoids_what_is_unwanted(view):
    measured = sampled("train", 8)
    chosen = informative(SPACE, view, measured, 6, seed=0)
    assert chosen == informative(SPACE, view, measured, 6, seed=0)
    assert chosen != informative(SPACE, view, measured, 6, seed=1)
    label = "token_mixer:pooling"
    unwanted = {chosen[0].digest, label}
    others = informative(SPACE, view, measured, 6, seed=0, unwanted=unwanted)
    assert chosen[0] not in others
    assert all(label not in operators_in(architecture) for architecture in others)


def test_rows_that_are_taken_are_not_chosen_again():
    rows = np.random.default_rng(0).normal(size=(30, 4))
    rows[7] *= 10
    assert 7 in spread(rows, 3)
    assert 7 not in spread(rows, 3, taken=8)
    assert min(spread(rows, 22, taken=8)) == 8
    with pytest.raises(UsageError, match="cannot choose 23 of 22"):
        spread(rows, 23, taken=8)


@pytest.mark.thorough
def test_an_active_profile_extends_a_table_by_chosen_networks(tmp_path):
    path = tmp_path / "table.json"
    options = {"num_classes": 10, "held_out": 2, "seconds": 0.5}
    first = profile(SPACE, Target(), path, train=4, **options)
    before = {item.architecture.digest for item in first.of_role(TRAIN)}
    table = profile(SPACE, Target(), path, train=7, active=True, **options)
    after = {item.architecture.digest for item in table.of_role(TRAIN)}
    assert before < after
    assert len(after) == 7
    drawn = {SPACE.sample(random.Random(f"0:train:{index}")).digest for index in range(350)}
    assert not (after - before) & drawn
    assert len(list(table.of_role(HELD_OUT))) == 2
