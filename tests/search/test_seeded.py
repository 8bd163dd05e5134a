"""Known architectures are proposed first, where they are feasible and new."""

from __future__ import annotations

import random

import pytest

from nas.search import strategy
from nas.search.seeded import Seeded
from nas.search.types import Budgets, Problem


@pytest.fixture
def seeds(problem):
    rng = random.Random(5)
    return [problem.space.sample(rng) for _ in range(4)]


def test_seeds_come_first_in_their_order_and_then_the_strategy(problem, seeds, fake):
    legal = Problem(problem.space, fake.describe)
    found = Seeded(strategy.create("random", legal, 0), legal, seeds, 10)
    asked = [found.ask(number) for number in range(10, 16)]
    assert asked[:4] == seeds
    plain = strategy.create("random", legal, 0)
    assert asked[4:] == [plain.ask(14), plain.ask(15)]
    assert found.ask(9) == plain.ask(9), "what was taken over keeps its number"


def test_a_seed_that_is_known_pending_or_over_a_budget_is_passed_over(problem, seeds, fake):
    legal = Problem(problem.space, fake.describe)
    found = Seeded(strategy.create("random", legal, 0), legal, seeds, 0)
    found.tell([fake.finished(legal, 99, seeds[0])])
    assert found.ask(0) != seeds[0]
    assert found.ask(1, pending=[seeds[1]]) != seeds[1]
    limit = min(fake.describe(seed)["latency_upper"] for seed in seeds)
    tight = Problem(problem.space, fake.describe, Budgets({"latency": limit}))
    found = Seeded(strategy.create("random", tight, 0), tight, seeds, 0)
    for number, seed in enumerate(seeds):
        assert (found.ask(number) == seed) == (tight.violation(seed) == 0.0)
