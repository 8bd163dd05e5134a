from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from nas.search.encoding import Encoding
from nas.search.evidence import ladder
from nas.search.feasibility import BudgetModel
from nas.search.strategies.graph_bo import STALE, GraphBo
from nas.search.table_space import TableSpace
from nas.search.types import COMPLETE, Budgets, Problem, Trial

GENES = tuple(f"g{i}" for i in range(6))
ROWS = np.array(list(itertools.product(range(3), repeat=6)))


def seconds(row):
    """Additive, but for rows whose first two genes are 0: these are quicker by far, which no linear model knows."""
    return float(np.exp(0.2 * sum(row.choices)) * (0.3 if row.choices[:2] == (0, 0) else 1.0))


def seconds_of(row):
    return {"latency": seconds(row)}


def problem(limit=4.0):
    budgets = Budgets({"latency": limit})
    return Problem(TableSpace("chain", GENES, ROWS), seconds_of, budgets, ("accuracy",))


def trials(rows, accuracy=lambda row: 0.1):
    return [Trial(i, row, COMPLETE, {"accuracy": accuracy(row), "latency": seconds(row)}) for i, row in enumerate(rows)]


def fitted(evidence=(), limit=4.0):
    found = problem(limit)
    encoding = Encoding(found.space)
    model = BudgetModel(found, encoding, 0)
    model.fit(list(evidence))
    members = [found.space.row(i) for i in range(len(ROWS))]
    return model, encoding.codes(members), np.array([seconds(one) for one in members])


def test_what_is_over_the_budget_by_far_is_improbable_and_what_is_within_is_not():
    model, codes, taken = fitted()
    probability = np.exp(model.log_probability(codes))
    assert probability[taken < 1.5].mean() > 0.85
    assert probability[taken > 8.0].mean() < 0.15
    assert (model.excess(codes)[taken < 1.5] == 0.0).mean() > 0.95


def test_a_probability_shuts_nothing_out_that_the_linear_model_misjudges():
    model, codes, taken = fitted(limit=1.2)
    misjudged = (taken <= 1.2) & (model.excess(codes) > 0.0)
    assert misjudged.any()
    assert np.exp(model.log_probability(codes)[misjudged]).max() > 0.01


def test_trials_at_the_budget_sharpen_the_model_there():
    space = problem().space
    slow = [row for row in map(space.row, range(len(ROWS))) if row.choices[0] and 3.0 < seconds(row) < 5.5]
    told = trials(random.Random(0).sample(slow, 100))
    (before, codes, taken), (after, _, _) = fitted(), fitted(told)
    near = ROWS[:, 0].astype(bool) & (taken > 3.0) & (taken < 5.5)

    def wrong(model):
        return ((model.log_probability(codes) > np.log(0.5)) != (taken <= 4.0))[near].mean()

    assert wrong(after) < 0.7 * wrong(before)


def test_the_model_is_a_function_of_the_trials_up_to_a_step_of_the_ladder():
    told = trials([problem().space.row(i) for i in random.Random(1).sample(range(len(ROWS)), 60)])
    step = ladder(60)
    (late, codes, _), (early, _, _) = fitted(told), fitted(told[:step])
    np.testing.assert_array_equal(late.log_probability(codes), early.log_probability(codes))
    late.fit(told[:40])
    np.testing.assert_array_equal(late.log_probability(codes), fitted(told[:40])[0].log_probability(codes))


def test_without_a_budget_nothing_is_improbable():
    found = Problem(problem().space, seconds_of)
    model = BudgetModel(found, Encoding(found.space), 0)
    model.fit([])
    codes = np.zeros((3, 6), dtype=np.int64)
    assert (model.log_probability(codes) == 0.0).all()
    assert (model.excess(codes) == 0.0).all()


@pytest.mark.parametrize(("since", "stale"), [(STALE - 1, False), (STALE, True)])
def test_a_search_is_stale_once_its_last_trials_have_not_improved(since, stale):
    space = problem().space
    rows = [space.row(i) for i in random.Random(2).sample(range(len(ROWS)), 12 + since)]
    best = rows[11].digest
    told = trials(rows, lambda row: 0.9 if row.digest == best else 0.2)
    assert GraphBo(Problem(space, seconds_of))._stale(told) is stale
    assert not GraphBo(Problem(space, seconds_of, None, ("accuracy", "latency")))._stale(told)


def test_a_stale_search_is_bold_in_every_other_batch_and_prefers_what_it_knows_less_of():
    space = problem().space
    rows = [space.row(i) for i in random.Random(3).sample(range(len(ROWS)), 40)]
    told = trials(rows, lambda row: 0.9 - 0.05 * sum(row.choices) + 0.5 * (row.digest == rows[5].digest))
    searcher = GraphBo(Problem(space, seconds_of))
    searcher.tell(told)
    everyone = searcher.encoding.codes([space.row(i) for i in range(len(ROWS))])

    def doubt(number):
        """The mean deviation of the twenty rows that promise most."""
        searcher.ask(number)
        leading = np.argsort(-searcher.value(everyone))[:20]
        return searcher._quick[0].predict(searcher.encoding.genes(everyone[leading]))[1].mean()

    timid, bold = doubt(40), doubt(41)
    assert bold > timid
    searcher = GraphBo(Problem(space, seconds_of))
    searcher.tell(told[:24])
    assert doubt(25) == pytest.approx(doubt(24), rel=0.05)


def measured(row):
    """Three in ten rows fail to learn."""
    draws = random.Random(str(row.choices))
    return 0.1 if draws.random() < 0.3 else 0.9 - 0.03 * sum(row.choices) + 0.05 * draws.random()


@pytest.mark.parametrize("objectives", [("accuracy", "latency"), ("accuracy", "latency", "params", "macs")])
def test_a_search_that_is_resumed_between_two_choices_of_kernels_proposes_the_same(objectives):
    def described(row):
        return {"latency": sum(row.choices) + 1.0, "params": row.choices[0] + 1.0, "macs": row.choices[1] + 2.0}

    def fresh():
        return GraphBo(Problem(problem().space, described, None, objectives))

    searcher, told = fresh(), []
    for number in range(46):
        row = searcher.ask(number)
        if number in (21, 24, 45):
            resumed = fresh()
            resumed.tell(told)
            assert resumed.ask(number) == row, number
        told.append(Trial(number, row, COMPLETE, {"accuracy": measured(row), **described(row)}))
        searcher.tell(told[-1:])
