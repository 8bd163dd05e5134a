"""Cheap scores first: who is scored in full, that it is decided once, and that nothing else can win."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search import strategy
from nas.search.archive import Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.screening import NO_BAR, ROWS, Bars, Saving, Screening, saving
from nas.search.types import COMPLETE, FAILED, PASSED_OVER, SCREENED, Budgets, Problem, Trial, best

IMAGES, FEW = 1000, 100


def screened(fake):
    """An evaluator whose cheap score is a tenth of a point off, and what it was asked for."""
    asked = []

    def evaluate(text, bar):
        asked.append((text, bar))
        metrics = fake.evaluate(text)
        cheap = round(metrics["accuracy"] - 0.001 * (len(text) % 2), 4)
        if cheap < bar:
            return {**metrics, "accuracy": cheap, "screening": cheap, "fidelity": FEW / IMAGES, "images": FEW}
        return {**metrics, "screening": cheap, "fidelity": 1.0, "images": IMAGES}

    return evaluate, asked


def by_proxy(fake):
    """An evaluator that scores nothing below the bar, and what it was asked for; its proxy is the accuracy, coarsely."""
    asked = []

    def evaluate(text, bar):
        asked.append((text, bar))
        metrics = fake.evaluate(text)
        guess = {"screening": round(10 * metrics["accuracy"]), "screening_seconds": 0.5}
        if guess["screening"] < bar:
            return {**guess, "fidelity": 0.0, "images": 0}
        return {**metrics, **guess, "fidelity": 1.0, "images": IMAGES}

    return evaluate, asked


def search(location, problem, evaluator, evaluations, name="evolution", **options):
    with Archive(location, problem.space, problem.objectives, problem.budgets) as archive:
        found = strategy.create(name, problem, 1)
        screening = Screening(0.25)
        executor = LocalExecutor(evaluator)
        run_search(problem, found, archive, executor, evaluations=evaluations, screening=screening, **options)
        return archive.trials()


@pytest.fixture
def alone(problem):
    return Problem(problem.space, problem._describe, problem.budgets)


def test_the_candidates_scored_in_full_are_the_best_so_far(tmp_path, alone, fake):
    trials = search(tmp_path / "a", alone, screened(fake)[0], 60)
    for trial in trials:
        seen = [other.metrics["screening"] for other in trials[: trial.number]]
        better = sum(value > trial.metrics["screening"] for value in seen)
        assert trial.full == (better < math.ceil(0.25 * (len(seen) + 1))), trial.number
    assert {trial.state for trial in trials} == {COMPLETE, SCREENED}
    assert all(trial.complete for trial in trials), "strategies learn from cheap scores as well"


def test_the_best_is_scored_in_full_whatever_a_cheap_score_says(tmp_path, alone, fake):
    seen = []
    trials = search(tmp_path / "a", alone, screened(fake)[0], 40, progress=lambda _, __, best: seen.append(best))
    lucky = Trial(99, trials[0].architecture, SCREENED, {**trials[0].metrics, "accuracy": 1.0})
    assert best([*trials, lucky], alone.budgets).full
    assert seen[-1] == best(trials, alone.budgets)


@pytest.mark.parametrize("make", [screened, by_proxy])
def test_a_stopped_search_decides_as_the_uninterrupted_one_does(tmp_path, alone, fake, make):
    whole, asked = make(fake)
    search(tmp_path / "whole", alone, whole, 40)
    parts, again = make(fake)
    search(tmp_path / "parts", alone, parts, 17)
    search(tmp_path / "parts", alone, parts, 40)
    assert again == asked


def test_the_archive_keeps_the_fidelity_and_the_saving_is_told(tmp_path, alone, fake):
    search(tmp_path / "a", alone, screened(fake)[0], 40)
    with Archive(tmp_path / "a", alone.space) as archive:
        trials = archive.trials()
    full = sum(trial.full for trial in trials)
    assert 0 < full < 40
    assert all((trial.metrics["fidelity"] < 1.0) == (trial.state == SCREENED) for trial in trials)
    found = saving(trials)
    assert (found.candidates, found.full, found.images) == (40, full, IMAGES)
    assert found.scored == full * IMAGES + (40 - full) * FEW
    assert f"{full} of 40 candidates scored on all 1000 validation images" in str(found)
    assert type(found).from_mapping(found.to_mapping()) == found


@pytest.mark.parametrize("name", ["random", "evolution", "nsga2", "nsga3", "local_search", "tpe", "bo"])
def test_what_a_proxy_turns_down_is_not_scored_and_every_strategy_goes_on_without_it(tmp_path, problem, fake, name):
    evaluate, asked = by_proxy(fake)
    search(tmp_path / "a", problem, evaluate, 50, name)
    with Archive(tmp_path / "a", problem.space, problem.objectives, problem.budgets) as archive:
        trials = archive.trials()
    assert len(asked) == len(trials) == 50
    assert len({trial.architecture.digest for trial in trials}) == 50, "what was turned down is not proposed again"
    for trial, (_, bar) in zip(trials, asked, strict=True):
        full = trial.metrics["screening"] >= bar
        assert trial.state == (COMPLETE if full else PASSED_OVER)
        assert (trial.full, trial.complete, trial.failed) == (full, full, False)
        assert ("accuracy" in trial.metrics) == full
    full = sum(trial.full for trial in trials)
    assert 0 < full < 50
    found = saving(trials)
    assert (found.candidates, found.full, found.images, found.scored) == (50, full, IMAGES, full * IMAGES)
    assert found.seconds == 25.0
    assert "and 25 s for the proxy" in str(found)
    assert type(found).from_mapping(found.to_mapping()) == found


def test_a_proxy_excuses_nobody_from_an_accuracy_that_is_no_number(tmp_path, alone, fake):
    def evaluate(text, bar):
        return {**by_proxy(fake)[0](text, bar), "accuracy": math.nan, "fidelity": 1.0}

    trials = search(tmp_path / "a", alone, evaluate, 3)
    assert {trial.state for trial in trials} == {FAILED}


@pytest.mark.parametrize("worthless", [math.nan, math.inf, -math.inf])
def test_a_cheap_score_that_is_no_number_is_no_bar_and_a_stopped_search_decides_the_same(tmp_path, alone, fake, worthless):
    def make():
        evaluate, asked = screened(fake)

        def sometimes(text, bar):
            found = evaluate(text, bar)
            return {**found, "screening": worthless} if len(asked) % 3 == 0 and len(asked) < 17 else found

        return sometimes, asked

    whole, asked = make()
    search(tmp_path / "whole", alone, whole, 30)
    parts, again = make()
    search(tmp_path / "parts", alone, parts, 17)
    search(tmp_path / "parts", alone, parts, 30)
    assert again == asked
    assert all(bar == NO_BAR or math.isfinite(bar) for _, bar in asked)


def test_what_is_passed_over_owes_what_describing_it_tells(tmp_path, fake, problem):
    def describe(member):
        return {**fake.describe(member), "macs": math.inf if member.digest[0] in "01234567" else 1.0}

    odd = Problem(problem.space, describe, None, ("accuracy", "macs"))
    search(tmp_path / "a", odd, by_proxy(fake)[0], 20)
    trials = search(tmp_path / "a", odd, by_proxy(fake)[0], 40)
    assert {trial.state for trial in trials} == {COMPLETE, PASSED_OVER, FAILED}
    assert all(trial.failed == ("macs" not in trial.metrics) for trial in trials[:20]), "the first were read again"


def test_what_was_passed_over_stays_so_where_no_score_is_an_objective(tmp_path, fake, problem):
    small = Problem(problem.space, fake.describe, None, ("params",))
    told = search(tmp_path / "a", small, by_proxy(fake)[0], 12)
    assert {trial.state for trial in told} == {COMPLETE, PASSED_OVER}
    with Archive(tmp_path / "a", small.space, small.objectives) as archive:
        assert [trial.state for trial in archive.trials()] == [trial.state for trial in told]


def test_a_saving_is_told_where_only_what_was_taken_over_is_scored_in_full(problem, fake):
    known = fake.finished(problem, 0, problem.space.smallest())
    taken = replace(known, metrics={**known.metrics, "images": IMAGES, "fidelity": 1.0}, origin="runs/other")
    for state, looked in ((PASSED_OVER, 0), (SCREENED, FEW)):
        less = {"screening": 0.0, "images": looked, "fidelity": looked / IMAGES}
        found = saving([taken, Trial(1, problem.space.largest(), state, less)])
        assert (found.candidates, found.full, found.images, found.scored) == (1, 0, IMAGES, looked)
        assert found.share == looked / IMAGES
        assert "0 of 1 candidates scored on all 1000" in str(found)


def test_images_that_were_looked_at_before_an_adaptation_are_part_of_the_cost(problem, fake):
    cheap = {"screening": 0.0, "screening_images": FEW}
    whole = {**fake.finished(problem, 0, problem.space.smallest()).metrics, **cheap, "images": IMAGES, "fidelity": 1.0}
    less = Trial(1, problem.space.largest(), PASSED_OVER, {**cheap, "images": 0, "fidelity": 0.0})
    found = saving([Trial(0, problem.space.smallest(), COMPLETE, whole), less])
    assert (found.full, found.images, found.scored) == (1, IMAGES, IMAGES + 2 * FEW)


def test_a_saving_of_before_there_were_proxies_is_read():
    found = Saving(8, 2, 100, 320)
    old = {name: value for name, value in found.to_mapping().items() if name != "seconds"}
    assert Saving.from_mapping(old) == found
    assert "proxy" not in str(found)


def test_nothing_is_told_of_a_saving_where_nothing_was_screened(problem, fake):
    assert saving([fake.finished(problem, 0, problem.space.smallest())]) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), max_size=20), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_with_several_objectives_only_what_is_no_dearer_is_competition(rows, promote):
    class Space:
        genes = ()

    class Member:
        def __init__(self, latency):
            self.digest, self.latency = str(latency), float(latency)

    problem = Problem(Space(), lambda member: {"latency": member.latency}, Budgets(), ("accuracy", "latency"))
    trials = [
        Trial(number, Member(latency), COMPLETE, {"accuracy": score, "screening": score, "latency": float(latency)})
        for number, (score, latency) in enumerate(rows)
    ]
    bar = Bars(Screening(promote), problem, trials).of(len(trials) - 1, Member(2))
    rivals = sorted((score for score, latency in rows[:-1] if latency <= 2), reverse=True)
    place = math.ceil(promote * (len(rivals) + 1))
    assert bar == (rivals[place - 1] if place <= len(rivals) else NO_BAR)


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 0.25, 0.5, math.nan, math.inf]), st.integers(1, 3), st.booleans()), max_size=30
    ),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_a_bar_is_that_of_the_sorted_scores_of_lower_numbers_however_they_were_told(rows, promote, number, rng):
    problem = Problem(SimpleNamespace(genes=()), lambda member: {"macs": float(member.macs)}, Budgets(), ("loss", "macs"))
    trials = [
        Trial(
            n,
            SimpleNamespace(digest=str(macs), macs=macs),
            FAILED if failed else SCREENED,
            {"screening": score, "macs": float(macs)},
        )
        for n, (score, macs, failed) in enumerate(rows)
    ]
    known = [t for t in trials if t.number < number and not t.failed and t.metrics["macs"] <= 2]
    scores = sorted((t.metrics["screening"] for t in known if math.isfinite(t.metrics["screening"])), reverse=True)
    place = math.ceil(promote * (len(scores) + 1))
    rng.shuffle(trials)
    cut = rng.randrange(len(trials) + 1)
    bars = Bars(Screening(promote), problem, trials[:cut])
    bars.tell(trials[cut:])
    assert bars.of(number, SimpleNamespace(digest="2", macs=2)) == (scores[place - 1] if place <= len(scores) else NO_BAR)


def test_bars_keep_as_many_scores_as_they_are_told(problem):
    alone = Problem(problem.space, problem._describe)
    trials = [Trial(n, problem.space.smallest(), SCREENED, {"screening": float(n % 997)}) for n in range(2 * ROWS + 1)]
    bars = Bars(Screening(0.25), alone, trials)
    seen = sorted((trial.metrics["screening"] for trial in trials), reverse=True)
    assert bars.of(len(trials), problem.space.smallest()) == seen[math.ceil(0.25 * (len(seen) + 1)) - 1]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, math.nan])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(UsageError, match="the share of candidates to score in full"):
        Screening(share)
