from __future__ import annotations

import random
from collections import Counter

import pytest

from nas.search import strategy
from nas.search.pareto import hypervolume_2d
from nas.search.strategies.nsga2 import Nsga2, Parent
from nas.search.strategies.nsga3 import Nsga3
from nas.search.types import Problem


@pytest.fixture
def told(problem, fake):
    """NSGA-II after its first generation of eight."""
    found = Nsga2(problem, 3, population=8)
    fake.advance(problem, found, 0, 8)
    return found


def test_each_parent_enters_each_round_of_tournaments_once(told):
    parents = told._survivors(1)
    entered = [told._entrant(parents, 1, place).trial.number for place in range(2 * len(parents))]
    assert Counter(entered) == dict.fromkeys([parent.trial.number for parent in parents], 2)
    assert Counter(entered[: len(parents)]) == dict.fromkeys([parent.trial.number for parent in parents], 1)
    assert entered[: len(parents)] != entered[len(parents) :]


def test_the_two_children_of_a_mating_share_out_the_genes_of_their_parents(told, monkeypatch):
    monkeypatch.setattr(type(told.space), "mutate", lambda space, architecture, rng: architecture)
    parents, differ = told._survivors(1), 0
    for mating in range(12):
        pair = [told._winner(parents, 1, 2 * mating + one) for one in (0, 1)]
        children = [told._child(parents, 1, mating, sibling, random.Random(0)) for sibling in (False, True)]
        before, after = ([told.space.encode(member) for member in members] for members in (pair, children))
        for gene in ("stem", "s0.depth", "s0.width", "s0.norm", "s1.depth", "s1.width", "s1.norm"):
            assert Counter(genes[gene] for genes in before) == Counter(genes[gene] for genes in after)
        differ += after[0] != after[1]
    assert differ >= 6


def test_six_in_ten_children_are_changed_by_mutation_as_where_each_gene_has_its_chance(told, monkeypatch):
    """Where each of n genes mutates with probability 1 / n in nine of ten children, 57 to 58 % of the children change."""
    changed = []
    monkeypatch.setattr(type(told.space), "crossover", lambda space, first, second, rng: first)
    monkeypatch.setattr(type(told.space), "mutate", lambda space, architecture, rng: changed.append(architecture))
    parents, draws, children = told._survivors(1), random.Random(0), 6000
    for mating in range(children):
        told._child(parents, 1, mating, mating % 2 == 1, draws)
    alone = 0.1
    genes = len(told.space.genes)
    share = 0.9 * (1 - (1 - 1 / genes) ** genes)
    assert len(changed) / children == pytest.approx(alone + (1 - alone) * share, abs=0.02)


def test_a_strategy_does_not_change_what_it_was_told_by_being_asked(told, problem):
    before = set(told._digests)
    first = told.ask(8)
    second = told.ask(8, [first])
    assert second.digest not in before | {first.digest}
    assert told._digests == before == {trial.architecture.digest for trial in told.history}


def test_a_lonely_parent_wins_against_a_crowded_one_that_does_not_dominate_it(told):
    trials = told.history
    crowded = Parent(trials[0], (1.0, 1.0), 0.0, crowding=0.1)
    lonely = Parent(trials[1], (0.0, 3.0), 0.0, crowding=2.0)
    beaten = Parent(trials[2], (1.0, 2.0), 0.0, crowding=9.0)

    def winner(first, second):
        found = {0: first, 1: second}
        told._entrant = lambda parents, generation, place: found[place]
        return told._winner([], 1, 0)

    assert winner(crowded, lonely) == winner(lonely, crowded) == lonely.trial.architecture
    assert winner(beaten, crowded) == winner(crowded, beaten) == crowded.trial.architecture


def test_an_infeasible_parent_loses_however_lonely(told):
    trials = [parent.trial for parent in told._survivors(1)]
    broken, fine = Parent(trials[0], (0.0, 0.0), 0.5), Parent(trials[1], (9.0, 9.0), 0.0, crowding=0.0)
    assert fine.beats(broken)
    assert not broken.beats(fine)


def test_populations_dominate_more_than_random_members(problem, fake):
    free = Problem(problem.space, fake.describe, None, ("accuracy", "latency"))

    def volume(found):
        return hypervolume_2d([free.costs(trial) for trial in fake.advance(free, found, 0, 96)], (0.0, 3e-3))

    luck = sum(volume(strategy.create("random", free, seed)) for seed in range(2))
    for kind in (Nsga2, Nsga3):
        assert sum(volume(kind(free, seed, population=16)) for seed in range(2)) > luck


def test_late_results_of_an_earlier_generation_change_the_parents_as_if_they_had_come_in_order(problem, fake):
    inorder, late = Nsga2(problem, 0, population=6), Nsga2(problem, 0, population=6)
    trials = fake.advance(problem, inorder, 0, 24)
    late.tell(trials[:4] + trials[5:18])
    late.parents(3)
    late.tell([trials[4], *trials[18:]])
    for generation in range(5):
        assert [t.number for t in late.parents(generation)] == [t.number for t in inorder.parents(generation)]


def test_swapped_parents_and_the_same_draws_give_the_sibling(problem):
    always = ("stem", "s0.depth", "s0.width", "s0.norm", "s1.depth", "s1.width", "s1.norm", "s1.downsample")
    for seed in range(40):
        draws = random.Random(seed)
        first, second = problem.space.sample(draws), problem.space.sample(draws)
        child = problem.space.crossover(first, second, random.Random(seed))
        sibling = problem.space.crossover(second, first, random.Random(seed))
        genes = [problem.space.encode(member) for member in (first, second, child, sibling)]
        for name in always:
            assert Counter(one[name] for one in genes[:2]) == Counter(one[name] for one in genes[2:])
