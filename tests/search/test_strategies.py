from __future__ import annotations

import random
import sys

import pytest

from nas import plugins
from nas.errors import InfeasibleError, UnknownNameError, UsageError
from nas.search import strategy
from nas.search.proposal import SpaceExhausted
from nas.search.strategies import optuna_sampler
from nas.search.types import FAILED, Budgets, Problem, Trial

NAMES = [name for name in strategy.names() if name != "auto"]
"""`auto` hands out one of the others, see below."""


@pytest.fixture(params=NAMES)
def name(request, monkeypatch):
    """Every registered strategy, with its random start and its populations cut to what 30 trials can show."""
    from nas.predictors.surrogates import boshnas
    from nas.search import model_strategy, surrogate_study
    from nas.search.strategies import evolution, nsga2

    # A fit of Optuna's process takes as long as all else here: it proposes the last six only.
    monkeypatch.setattr(surrogate_study.OptunaStrategy.__init__, "__defaults__", (0, 24 if request.param == "gp" else 8))
    monkeypatch.setattr(evolution.RegularisedEvolution.__init__, "__defaults__", (0, 8, 3, 0.25))
    monkeypatch.setattr(nsga2.Nsga2.__init__, "__defaults__", (0, 8))
    for size, few in {"RANDOM": 20, "CHILDREN": 20, "ROUNDS": 2, "SHORTLIST": 2}.items():
        monkeypatch.setattr(model_strategy, size, few)
    monkeypatch.setattr(boshnas, "ITERATIONS", 3)
    return request.param


def digests(trials):
    return [trial.architecture.digest for trial in trials]


def test_the_strategies_of_the_design_are_registered():
    assert {"random", "evolution", "nsga2", "tpe", "gp"} <= set(NAMES)
    assert all(found.summary for found in strategy.strategies())


def test_the_strategies_that_improve_one_objective_alone_say_so():
    several = {found.name for found in strategy.strategies() if not found.single}
    assert several == {"auto", "bo", "nsga2", "nsga3", "random"}
    assert strategy.single("evolution")
    assert strategy.single("optuna:NSGAIISampler")
    with pytest.raises(UnknownNameError):
        strategy.single("evolutoin")


def test_an_unknown_strategy_is_answered_with_the_nearest(problem):
    with pytest.raises(UnknownNameError, match="Did you mean 'evolution'"):
        strategy.create("evolutoin", problem)


def test_strategies_of_other_packages_are_found(problem, monkeypatch):
    made = []

    class Entry:
        def load(self):
            strategy.register("theirs", "from elsewhere")(lambda problem, seed: made.append(seed))

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry()] if group == "nas.strategies" else [])
    monkeypatch.setattr(strategy, "_REGISTRY", dict(strategy._REGISTRY))
    strategy._load.cache_clear()
    strategy.create("theirs", problem, 7)
    assert made == [7]
    strategy._load.cache_clear()


def test_proposals_are_feasible_members_and_never_repeat(name, problem, fake):
    trials = fake.advance(problem, strategy.create(name, problem, 1), 0, 30)
    assert all(problem.space.contains(trial.architecture) for trial in trials)
    assert all(problem.violation(trial.architecture) == 0.0 for trial in trials)
    assert len(set(digests(trials))) == 30


def test_a_resumed_search_proposes_what_the_uninterrupted_one_does(name, problem, fake):
    whole = fake.advance(problem, strategy.create(name, problem, 2), 0, 30)
    resumed = strategy.create(name, Problem(problem.space, fake.describe, problem.budgets, problem.objectives), 2)
    resumed.tell(list(reversed(whole[:13])))
    assert digests(whole[13:]) == digests(fake.advance(problem, resumed, 13, 30))


def test_asking_twice_gives_the_same_and_another_seed_another(name, problem, fake):
    first, second = strategy.create(name, problem, 3), strategy.create(name, problem, 4)
    assert [first.ask(n).digest for n in (0, 1, 2)] != [second.ask(n).digest for n in (0, 1, 2)]
    assert len({first.ask(n).digest for n in (0, 1, 2)}) == 3
    fake.advance(problem, first, 0, 10)
    assert first.ask(10).digest == first.ask(10).digest


def test_what_is_pending_is_not_proposed_again(name, problem, fake):
    found = strategy.create(name, problem, 5)
    fake.advance(problem, found, 0, 10)
    pending = [found.ask(10)]
    assert found.ask(10, pending).digest != pending[0].digest


def test_failed_trials_are_survived_and_not_repeated(name, problem, fake):
    found = strategy.create(name, problem, 6)
    failed = [Trial(n, problem.space.sample(random.Random(n)), FAILED, {}, "boom") for n in range(10)]
    found.tell(failed)
    trials = fake.advance(problem, found, 10, 30)
    assert not set(digests(failed)) & set(digests(trials))


def test_a_space_is_searched_to_its_last_member(name, fake):
    space = fake.space(
        stems=("patchify",), norms=("layer",), downsamples=("conv",), depths=((1,), (1, 2)), widths=((16,), (32, 48)),
        mixers=(("depthwise_conv",),) * 2, settings={"kernel": (3, 5), "dilation": (1,), "expansion": (4,)},
    )  # fmt: skip
    problem = Problem(space, fake.describe)
    found = strategy.create(name, problem, 0)
    trials = fake.advance(problem, found, 0, space.size())
    assert len(set(digests(trials))) == space.size()
    with pytest.raises(SpaceExhausted, match="no new architecture"):
        found.ask(space.size())


def test_an_impossible_budget_names_the_closest_value(name, problem, fake):
    impossible = Problem(problem.space, fake.describe, Budgets({"latency": 1e-5, "params": 1e9}))
    with pytest.raises(InfeasibleError, match=r"the latency budget of 10 µs: the closest one found has 528 µs"):
        strategy.create(name, impossible).ask(0)


def test_a_budget_that_only_one_width_meets_is_met(name, problem, fake):
    tight = Problem(problem.space, fake.describe, Budgets({"latency": 5.4e-4}))
    found = strategy.create(name, tight)
    assert all(tight.violation(trial.architecture) == 0.0 for trial in fake.advance(tight, found, 0, 12))


def test_a_budget_that_nothing_predicts_is_refused(problem, fake):
    with pytest.raises(UsageError, match="nothing predicts 'memory'"):
        strategy.create("random", Problem(problem.space, fake.describe, Budgets({"memory": 1.0}))).ask(0)


def test_informed_strategies_beat_random_search(problem, fake):
    free = Problem(problem.space, fake.describe)

    def reached(which):
        runs = [fake.advance(free, strategy.create(which, free, seed), 0, 100)[-30:] for seed in range(2)]
        return sum(trial.metrics["accuracy"] for run in runs for trial in run) / 60

    luck = reached("random")
    assert all(reached(informed) > luck + 0.01 for informed in ("evolution", "nsga2", "tpe"))


def test_any_sampler_of_optuna_is_a_strategy(problem, fake):
    found = strategy.create("optuna:QMCSampler", problem, 1)
    assert len(set(digests(fake.advance(problem, found, 0, 24)))) == 24
    with pytest.raises(UsageError, match="did you mean 'optuna:TPESampler'"):
        strategy.require("optuna:TPSampler")


@pytest.mark.parametrize("kind", ["TPESampler", "QMCSampler", "RandomSampler", "NSGAIIISampler", "GPSampler"])
def test_samplers_of_optuna_say_nothing_about_their_own_future(kind, problem, fake, recwarn):
    found = strategy.create(f"optuna:{kind}", Problem(problem.space, fake.describe), 1)
    fake.advance(found.problem, found, 0, 22)
    assert [str(warning.message) for warning in recwarn] == []


def test_a_sampler_that_lacks_its_library_is_refused_at_once_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    optuna_sampler._try.cache_clear()
    with pytest.raises(UsageError, match=r"CmaEsSampler does not work here .*cmaes.*; install what it lacks") as refused:
        strategy.require("optuna:CmaEsSampler")
    assert "\n" not in str(refused.value)


def test_an_abstract_sampler_is_none():
    with pytest.raises(UsageError, match="no sampler 'BaseGASampler'") as refused:
        strategy.require("optuna:BaseGASampler")
    assert "'optuna:Base" not in str(refused.value)


def test_a_genetic_sampler_of_optuna_breeds_from_the_generation_before(problem, fake, monkeypatch):
    """Without generations it would draw at random for ever, no better in the last generation than in the first."""
    monkeypatch.setattr(optuna_sampler, "POPULATION", 20)
    free = Problem(problem.space, fake.describe)
    runs = [fake.advance(free, strategy.create("optuna:NSGAIISampler", free, seed), 0, 80) for seed in range(3)]
    first, last = (sum(t.metrics["accuracy"] for run in runs for t in run[part]) / 60 for part in (slice(20), slice(60, 80)))
    assert last > first + 0.03


def test_auto_follows_the_number_of_objectives(problem, fake):
    objectives = ("accuracy", "latency", "params", "macs")
    kinds = {
        n: type(strategy.create("auto", Problem(problem.space, fake.describe, None, objectives[:n]))) for n in (1, 2, 3, 4)
    }
    assert [kinds[n].__name__ for n in (1, 2, 3, 4)] == ["GraphBo", "GraphBo", "GraphBo", "Nsga3"]


def test_evolution_forgets_the_oldest_however_good(problem, fake):
    from nas.search.strategies.evolution import RegularisedEvolution

    found = RegularisedEvolution(problem, 0, population=4, tournament=4, crossover=0.0)
    trials = fake.advance(problem, strategy.create("random", problem, 0), 0, 8)
    star = Trial(0, trials[0].architecture, "complete", {**trials[0].metrics, "accuracy": 1.0})
    found.tell([star, *trials[1:]])
    best_alive = max(trials[4:], key=lambda trial: trial.metrics["accuracy"]).architecture
    parents = [found._winner(found.complete[-4:], random.Random(n)) for n in range(20)]
    assert set(parents) == {best_alive}


def test_nsga2_selects_the_front_before_the_rest(problem, fake):
    from nas.search.pareto import non_dominated_sort
    from nas.search.strategies.nsga2 import Nsga2

    found = Nsga2(problem, 0, population=12)
    trials = fake.advance(problem, found, 0, 36)
    parents = {trial.number for trial in found.parents(3)}
    earlier = {trial.number for trial in found.parents(2)} | set(range(24, 36))
    pool = [trial for trial in trials if trial.number in earlier]
    front = non_dominated_sort([problem.costs(trial) for trial in pool])[0]
    assert {pool[i].number for i in front[:12]} <= parents if len(front) <= 12 else parents <= {pool[i].number for i in front}
    assert len(parents) == 12


def test_nsga2_thins_a_front_where_it_is_crowded(problem):
    from nas.search.strategies.nsga2 import Nsga2

    rng = random.Random(0)
    line = [(0.10, 1e-5), (0.50, 5e-5), (0.51, 5.1e-5), (0.52, 5.2e-5), (0.90, 9e-5)]
    trials = [
        Trial(n, problem.space.sample(rng), "complete", {"accuracy": a, "latency": t, "latency_upper": t})
        for n, (a, t) in enumerate(line)
    ]
    found = Nsga2(problem, 0, population=4)
    assert {parent.trial.number for parent in found._select(trials)} == {0, 1, 3, 4}
