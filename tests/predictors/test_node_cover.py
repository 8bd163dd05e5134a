"""The networks that bring the node times of others along."""

from collections import Counter
from math import sqrt
from random import Random

import pytest
from known_machine import SPACE, sampled

from nas.predictors import node_cover
from nas.predictors.latency_table import NETWORK, TRAIN
from nas.predictors.node_cover import covering
from nas.search_spaces.exclusion import operators_in
from nas.search_spaces.graph import nodes


def keys_of(members):
    return {node.key for item in members for node in nodes(item, None, 3, 10)}


def test_fewer_networks_are_the_first_of_more_and_all_are_distinct():
    more = covering(SPACE, 12, 0, 3, 10)
    assert len({item.digest for item in more}) == 12
    assert more[:5] == covering(SPACE, 5, 0, 3, 10)
    assert more != covering(SPACE, 12, 1, 3, 10)


def test_each_brings_the_most_of_what_the_earlier_ones_have_not(monkeypatch):
    """Against the rule spelt out, without the queue."""
    monkeypatch.setattr(node_cover, "POOL", 200)
    pool = list({item.digest: item for item in (SPACE.sample(Random(f"0:{TRAIN}:{n}")) for n in range(200))}.values())
    made = [keys_of([item]) for item in pool]
    often, known, wanted = Counter(key for keys in made for key in keys), set(made[3] | made[8]), []

    def gain(place):
        return sum(often[key] for key in made[place] - known) / sqrt(len(made[place]))

    for _ in range(6):
        best = max(range(len(pool)), key=gain)
        known |= made[best]
        wanted.append(pool[best])
    assert covering(SPACE, 6, 0, 3, 10, measured=made[3] | made[8]) == wanted


def test_chosen_networks_hold_more_of_what_others_are_made_of_than_random_ones():
    others = [[node.key for node in nodes(item, None, 3, 10)] for item in sampled("other", 60)]

    def share(members):
        known = keys_of(members)
        return sum(key in known for keys in others for key in keys) / sum(map(len, others))

    assert share(covering(SPACE, 20, 0, 3, 10)) > share(sampled("random", 20)) + 0.04
    first = sampled("random", 20)
    more = covering(SPACE, 10, 0, 3, 10, measured=keys_of(first))
    assert share(first + more) > share(first + covering(SPACE, 10, 0, 3, 10))


@pytest.mark.thorough
def test_what_is_refused_or_taken_is_in_none():
    first = covering(SPACE, 1, 0, 3, 10)[0]
    assert covering(SPACE, 1, 0, 3, 10, {NETWORK + first.digest})[0] != first
    assert covering(SPACE, 1, 0, 3, 10, taken=[first.digest])[0] != first
    strange = next(label for label in sorted(operators_in(first)) if label.startswith("token_mixer:"))
    rest = covering(SPACE, 6, 0, 3, 10, {strange})
    assert len(rest) == 6
    assert all(strange not in operators_in(item) for item in rest)


def test_the_more_are_asked_for_the_more_there_are_to_choose_from(monkeypatch):
    monkeypatch.setattr(node_cover, "POOL", 12)
    sizes = []
    pool = node_cover._pool
    monkeypatch.setattr(node_cover, "_pool", lambda space, size, *rest: sizes.append(size) or pool(space, size, *rest))
    for number in (1, 5):
        covering(SPACE, number, 0, 3, 10)
    assert sizes == [12, 50]


def test_as_many_as_are_asked_for_are_found_where_most_are_refused_or_the_pool_is_small(monkeypatch):
    monkeypatch.setattr(node_cover, "POOL", 12)
    monkeypatch.setattr(node_cover, "EACH", 1)
    assert len(covering(SPACE, 20, 0, 3, 10)) == 20
    mixers = sorted(
        {label for item in sampled("other", 10) for label in operators_in(item) if label.startswith("token_mixer:")}
    )
    assert len(covering(SPACE, 12, 0, 3, 10, set(mixers[:1]))) == 12
