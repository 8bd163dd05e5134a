"""Local search: a stream of mutants for each centre, drawn once, whoever asks and however the trials came in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.strategies import local_search
from nas.search.strategies.local_search import LocalSearch
from nas.search.types import COMPLETE, Problem, Trial


class Member:
    def __init__(self, place):
        self.place, self.digest = place, f"{place:06}"


class Line:
    """Whole numbers up to `size`; a mutant is at most `reach` away, or the number itself."""

    name, genes, dense = "line", (), True

    def __init__(self, size=1000, reach=4):
        self.size_, self.reach, self.draws = size, reach, 0

    def sample(self, rng):
        return Member(rng.randrange(self.size_))

    def mutate(self, member, rng):
        self.draws += 1
        return Member((member.place + rng.randint(-self.reach, self.reach)) % self.size_)


def problem_on(line):
    """Every seventh number breaks the budget of the description."""
    found = Problem(line, lambda member: {})
    found.violation = lambda member: float(member.place % 7 == 0)
    return found


def trial(number, member):
    """The accuracy falls with the distance from 500."""
    return Trial(number, member, COMPLETE, {"accuracy": 1.0 - abs(member.place - 500) / 1000})


def played(found, count, first=0):
    trials = []
    for number in range(first, first + count):
        trials.append(trial(number, found.ask(number)))
        found.tell(trials[-1:])
    return trials


def test_the_first_of_the_best_centres_with_a_new_mutant_proposes():
    found = LocalSearch(problem_on(Line(reach=40)), 0)
    trials = played(found, 150)
    assert max(one.metrics["accuracy"] for one in trials) == 1.0
    assert len({one.architecture.digest for one in trials}) == 150
    assert all(one.architecture.place % 7 for one in trials)
    anew = [(one.architecture.digest, asked_anew(trials[: one.number])) for one in trials[local_search.STARTUP :]]
    assert all(expected in (None, proposed) for proposed, expected in anew)
    assert sum(expected is not None for _, expected in anew) > 50


def asked_anew(trials):
    """The proposal by the definition: the streams of the best centres from their beginning."""
    found = LocalSearch(problem_on(Line(reach=40)), 0)
    known = {one.architecture.digest for one in trials}
    for centre in sorted(trials, key=lambda one: (-one.metrics["accuracy"], one.number))[: local_search.CENTRES]:
        for member in found._drawn(centre.architecture):
            if member.digest not in known:
                return member.digest
    return None


def test_no_mutant_is_drawn_twice_and_a_centre_told_to_its_end_is_not_looked_at_again():
    line = Line()
    found = LocalSearch(problem_on(line), 0)
    played(found, 300)
    streams = len(found._spent) + len(found._streams)
    assert line.draws <= streams * 3 * local_search.PATIENCE, "eight mutants and the end of a stream for each centre at most"
    known = found.ask(300)
    assert found.ask(300).digest == known.digest
    line.draws = 0
    found.ask(300), found.ask(301)
    assert line.draws == 0, "what was drawn and not told waits"
    assert found._spent


def test_what_a_proposal_draws_does_not_grow_with_the_archive():
    line = Line(size=100_000, reach=20)
    found = LocalSearch(problem_on(line), 0)
    draws = []
    for _ in range(5):
        line.draws = 0
        played(found, 400, len(found.history))
        draws.append(line.draws)
    assert max(draws[1:]) <= 2 * draws[1]


@given(st.integers(10, 60), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_proposal_depends_on_what_is_told_and_pending_alone(count, open_, rng):
    line = Line(size=200)
    going = LocalSearch(problem_on(line), 3)
    trials, pending = [], []
    for number in range(count):
        pending.append((number, going.ask(number, [member for _, member in pending])))
        if len(pending) > open_ or rng.random() < 0.5:
            told = [trial(*pending.pop(rng.randrange(len(pending))))]
            going.tell(told)
            trials += told
    fresh = LocalSearch(problem_on(line), 3)
    rng.shuffle(trials)
    cut = rng.randrange(len(trials) + 1)
    fresh.tell(trials[:cut]), fresh.tell(trials[cut:])
    for others in ([member for _, member in pending], []):
        assert fresh.ask(count, others).digest == going.ask(count, others).digest
        assert fresh.ask(count, others).digest not in {member.digest for member in others}


def test_a_mutant_that_was_given_up_is_proposed_again():
    found = LocalSearch(problem_on(Line()), 0)
    played(found, 20)
    given_up = found.ask(20)
    assert found.ask(21, [given_up]).digest != given_up.digest
    assert found.ask(21).digest == given_up.digest


@pytest.mark.parametrize("seed", [1, 2])
def test_streams_are_of_the_seed(seed):
    starts = [trial(number, Member(480 + number)) for number in range(12)]
    asked = {}
    for one in (0, seed):
        found = LocalSearch(problem_on(Line(reach=300)), one)
        found.tell(starts)
        asked[one] = [member.place for member in [found.ask(12)]]
        assert found.ask(99).place == asked[one][0], "and not of the number"
    assert asked[0] != asked[seed]


def test_where_nothing_is_left_around_what_is_known_draws_are_random():
    line = Line(size=10_000, reach=0)
    found = LocalSearch(problem_on(line), 0)
    trials = played(found, 30)
    assert len({one.architecture.digest for one in trials}) == 30
    rng = random.Random("0:29")
    assert trials[29].architecture.place in {line.sample(rng).place for _ in range(12)}
